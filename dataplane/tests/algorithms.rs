//! Every published vector of the algorithms, through the door that names them.
#![allow(clippy::unwrap_used)]

use pc5_dataplane::cipher::{Job, KeyIndex};
use pc5_dataplane::crypto;
use pc5_dataplane::crypto::algorithm::{self, Algorithm, AlgorithmError, Input};
use pc5_dataplane::crypto::snow3g::Snow3g;
use pc5_dataplane::crypto::zuc::Zuc;
use pc5_dataplane::kdf::FrameKeys;
use pc5_dataplane::suite::Suite;
use serde_json::Value;

fn vectors(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/vectors/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let Value::Object(mut file) = serde_json::from_str(&text).unwrap() else { panic!("{path}") };
    let Some(Value::Array(vectors)) = file.remove("vectors") else { panic!("{path}") };
    assert_eq!(vectors.len() as u64, file["count"].as_u64().unwrap());
    vectors
}

fn octets(v: &Value, name: &str) -> Vec<u8> {
    hex::decode(v[name].as_str().unwrap()).unwrap()
}

fn word(v: &Value, name: &str) -> u32 {
    u32::from_str_radix(v[name].as_str().unwrap(), 16).unwrap()
}

fn number(v: &Value, name: &str) -> usize {
    v[name].as_u64().unwrap() as usize
}

fn counted(v: &Value) -> Input {
    let (bearer, direction) = (number(v, "bearer") as u8, number(v, "direction") as u8);
    Input::Count { count: word(v, "count"), bearer, direction }
}

fn iv(v: &Value) -> Input {
    Input::Iv(octets(v, "iv").try_into().unwrap())
}

#[test]
fn ciphering_128() {
    for (file, name, count) in
        [("eea1_nea1", "nea1", 16), ("eea2_nea2", "eea2", 11), ("eea3_nea3", "eea3", 10)]
    {
        let algorithm: Algorithm = name.parse().unwrap();
        let vectors = vectors(file);
        assert_eq!(vectors.len(), count);
        for v in vectors {
            let (plain, ciphered) = (octets(&v, "plaintext"), octets(&v, "ciphertext"));
            let (key, bits) = (octets(&v, "key"), number(&v, "length_bits"));
            let mut data = plain.clone();
            algorithm::cipher(algorithm, &key, &counted(&v), bits, &mut data).unwrap();
            assert_eq!(hex::encode(&data), hex::encode(&ciphered), "{algorithm} {}", v["name"]);
            algorithm::cipher(algorithm, &key, &counted(&v), bits, &mut data).unwrap();
            assert_eq!(data, plain);
            // Bits behind the message stay as they were.
            let Some(last) = bits.div_ceil(8).checked_sub(1) else { continue };
            let mut longer = [&plain[..=last], &[0xa5; 9]].concat();
            let behind = 0xff_u8.checked_shr((bits - last * 8) as u32).unwrap_or(0);
            longer[last] |= behind;
            algorithm::cipher(algorithm, &key, &counted(&v), bits, &mut longer).unwrap();
            assert_eq!(longer[last], ciphered[last] | behind);
            assert_eq!(longer[last + 1..], [0xa5; 9]);
        }
    }
}

#[test]
fn integrity_128() {
    for (file, name, count) in
        [("eia1_nia1", "nia1", 11), ("eia2_nia2", "eia2", 13), ("eia3_nia3", "eia3", 10), ("uia2", "uia2", 6)]
    {
        let algorithm: Algorithm = name.parse().unwrap();
        let vectors = vectors(file);
        assert_eq!(vectors.len(), count);
        for v in vectors {
            let (key, mut message, bits) =
                (octets(&v, "key"), octets(&v, "message"), number(&v, "length_bits"));
            let input = match algorithm {
                Algorithm::Uia2 => Input::Fresh {
                    count: word(&v, "count"),
                    fresh: word(&v, "fresh"),
                    direction: number(&v, "direction") as u8,
                },
                _ => counted(&v),
            };
            let mac = algorithm::mac(algorithm, &key, &input, bits, &message).unwrap();
            assert_eq!(hex::encode(&mac), v["mac"].as_str().unwrap(), "{algorithm} {}", v["name"]);
            // Bits behind the message count for nothing, bits of it for something.
            if bits % 8 != 0 {
                *message.last_mut().unwrap() |= 0xff >> (bits % 8);
            }
            message.push(0xff);
            assert_eq!(algorithm::mac(algorithm, &key, &input, bits, &message).unwrap(), mac);
            message[(bits - 1) / 8] ^= 0x80 >> ((bits - 1) % 8);
            assert_ne!(algorithm::mac(algorithm, &key, &input, bits, &message).unwrap(), mac);
        }
    }
}

#[test]
fn family_256() {
    let mut sets = 0;
    for x in 4..=6 {
        let named = |kind: &str| {
            (format!("{kind}{x}").parse::<Algorithm>().unwrap(), vectors(&format!("256_{kind}{x}")))
        };
        let (algorithm, vectors) = named("nea");
        sets += vectors.len();
        for v in vectors {
            let mut data = octets(&v, "msg");
            let bits = data.len() * 8;
            algorithm::cipher(algorithm, &octets(&v, "key"), &iv(&v), bits, &mut data).unwrap();
            assert_eq!(hex::encode(&data), v["ct"].as_str().unwrap(), "{algorithm} {}", v["tcId"]);
        }
        let (algorithm, vectors) = named("nia");
        sets += vectors.len();
        for v in vectors {
            let message = octets(&v, "msg");
            let tag =
                algorithm::mac(algorithm, &octets(&v, "key"), &iv(&v), message.len() * 8, &message).unwrap();
            assert_eq!(hex::encode(&tag), v["tag"].as_str().unwrap(), "{algorithm} {}", v["tcId"]);
            assert_eq!(tag.len() * 8, number(&v, "tag_bits"));
        }
        let (algorithm, vectors) = named("nca");
        sets += vectors.len();
        for v in vectors {
            let (key, aad, plain) = (octets(&v, "key"), octets(&v, "aad"), octets(&v, "msg"));
            let mut data = plain.clone();
            let mut tag = algorithm::seal(algorithm, &key, &iv(&v), &aad, &mut data).unwrap();
            assert_eq!(hex::encode(&data), v["ct"].as_str().unwrap(), "{algorithm} {}", v["tcId"]);
            assert_eq!(hex::encode(&tag), v["tag"].as_str().unwrap(), "{algorithm} {}", v["tcId"]);
            let ciphered = data.clone();
            tag[0] ^= 1;
            assert_eq!(algorithm::open(algorithm, &key, &iv(&v), &aad, &mut data, &tag), Ok(false));
            assert_eq!(data, ciphered);
            tag[0] ^= 1;
            assert_eq!(algorithm::open(algorithm, &key, &iv(&v), &aad, &mut data, &tag[1..]), Ok(false));
            assert_eq!(algorithm::open(algorithm, &key, &iv(&v), &aad, &mut data, &tag), Ok(true));
            assert_eq!(data, plain);
        }
    }
    assert_eq!(sets, 168);
}

/// The words z1, z2 ... that the vector names.
fn check_words(v: &Value, mut next: impl FnMut() -> u32) {
    let mut expected: Vec<(usize, String)> = Vec::new();
    for (name, value) in v.as_object().unwrap() {
        let Some(first) = name.strip_prefix('z') else { continue };
        let first: usize = first.split("_z").next().unwrap().parse().unwrap();
        for (i, word) in value.as_str().unwrap().as_bytes().chunks(8).enumerate() {
            expected.push((first + i, String::from_utf8(word.to_vec()).unwrap()));
        }
    }
    assert!(expected.len() >= 2);
    let words: Vec<u32> = (0..2500).map(|_| next()).collect();
    for (place, word) in expected {
        assert_eq!(format!("{:08x}", words[place - 1]), word, "{} z{place}", v["name"]);
    }
}

#[test]
fn keystreams() {
    for v in vectors("snow3g_keystream") {
        let words = |name| {
            let o = octets(&v, name);
            std::array::from_fn(|i| u32::from_be_bytes(o[4 * i..4 * i + 4].try_into().unwrap()))
        };
        let mut generator = Snow3g::new(&words("key"), &words("iv"));
        check_words(&v, || generator.word());
    }
    for v in vectors("zuc_keystream") {
        let (key, iv) = (octets(&v, "key"), octets(&v, "iv"));
        let mut generator = Zuc::new(&key.try_into().unwrap(), &iv.try_into().unwrap());
        check_words(&v, || generator.word());
    }
}

#[test]
fn calls_that_do_not_fit_are_refused() {
    let counted = |bearer, direction| Input::Count { count: 0, bearer, direction };
    let mut data = [0; 8];
    for algorithm in Algorithm::ALL.iter().copied() {
        assert_eq!(algorithm.name().parse(), Ok(algorithm));
        assert_eq!(algorithm.twin().parse(), Ok(algorithm));
        let key = vec![0; algorithm.key_len()];
        let input = match algorithm {
            Algorithm::Uia2 => Input::Fresh { count: 0, fresh: 0, direction: 0 },
            _ => counted(0, 0),
        };
        let ways = |key: &[u8], input: &Input, bits, data: &mut [u8]| {
            [
                algorithm::cipher(algorithm, key, input, bits, data).map(|()| Vec::new()),
                algorithm::mac(algorithm, key, input, bits, data),
                algorithm::seal(algorithm, key, input, &[], data),
                algorithm::open(algorithm, key, input, &[], data, &[0; 16]).map(|_| Vec::new()),
            ]
        };
        let fits = ways(&key, &input, 64, &mut data).iter().filter(|r| r.is_ok()).count();
        assert_eq!(fits, if algorithm.does() == algorithm::Does::Both { 2 } else { 1 }, "{algorithm}");
        assert!(ways(&key[1..], &input, 64, &mut data).iter().all(Result::is_err));
        let foreign = Input::Fresh { count: 0, fresh: 0, direction: 2 };
        assert!(ways(&key, &foreign, 64, &mut data).iter().all(Result::is_err));
        assert!(ways(&key, &counted(32, 0), 64, &mut data).iter().all(Result::is_err));
        assert!(ways(&key, &counted(0, 2), 64, &mut data).iter().all(Result::is_err));
        assert!(ways(&key, &input, 65, &mut data)[..2].iter().all(Result::is_err));
    }
    assert!(matches!("eea4".parse::<Algorithm>(), Err(AlgorithmError::Unknown(_))));
    // An IV that names a tag of 24 bits, which is none.
    let short = Input::Iv([0x18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(algorithm::mac(Algorithm::Nia4, &[0; 32], &short, 8, &[0]).is_err());
}

/// Seals one frame on every tier of a suite; `each` sees the tier's name, data and MAC field.
fn on_every_tier(
    suite: Suite,
    keys: (&[u8], [u8; 16]),
    job: &Job,
    message: &[u8],
    each: impl Fn(&str, &[u8], &[u8]),
) {
    for kernel in crypto::kernels(suite) {
        let mut cipher = crypto::cipher(suite, kernel).unwrap();
        let key = cipher.insert(&FrameKeys::from_parts(keys.0, keys.1, [0; 12]));
        // A message under an EIA begins with the header.
        let header = if job.clear_data { &message[..Job::HEADER_LEN] } else { &[0; Job::HEADER_LEN] };
        let data = if job.clear_data { &message[Job::HEADER_LEN..] } else { message };
        let arena = [header, data, &[0; 4][..suite.mac_len()]].concat();
        let job = Job { start: Job::HEADER_LEN as u32, len: data.len() as u32, key, ..*job };
        // The same frame in each of several lanes.
        for frames in [1, 20] {
            let mut arenas = arena.repeat(frames);
            let mut jobs: Vec<Job> =
                (0..frames).map(|i| Job { start: job.start + (i * arena.len()) as u32, ..job }).collect();
            cipher.seal(&mut arenas, &mut jobs);
            for sealed in arenas.chunks(arena.len()) {
                let (data, mac) = sealed[Job::HEADER_LEN..].split_at(data.len());
                each(kernel.name(), data, mac);
            }
        }
    }
}

fn job(v: &Value, clear_data: bool) -> Job {
    let (bearer, direction) = (number(v, "bearer") as u8, number(v, "direction") as u8);
    Job {
        aad: [0; 16],
        start: 0,
        len: 0,
        key: KeyIndex(0),
        count: word(v, "count"),
        bearer_direction: Job::pack_bearer_direction(bearer, direction),
        clear_data,
        verified: false,
        slot: 0,
    }
}

#[test]
fn ciphering_on_every_tier() {
    for (file, suite) in [("eea1_nea1", Suite::Eea1), ("eea2_nea2", Suite::Eea2), ("eea3_nea3", Suite::Eea3)]
    {
        for v in vectors(file) {
            let (plain, ciphered) = (octets(&v, "plaintext"), octets(&v, "ciphertext"));
            // Frames have whole octets: of the last one only the vector's bits are compared.
            let bits = number(&v, "length_bits");
            let keep = |data: &[u8]| {
                let mut data = data[..bits.div_ceil(8)].to_vec();
                if let (Some(last), rest @ 1..) = (data.last_mut(), bits % 8) {
                    *last &= !(0xff >> rest);
                }
                data
            };
            on_every_tier(
                suite,
                (&octets(&v, "key"), [0; 16]),
                &job(&v, false),
                &plain,
                |kernel, data, _| {
                    assert_eq!(keep(data), keep(&ciphered), "{suite} {kernel} {}", v["name"]);
                },
            );
        }
    }
}

#[test]
fn integrity_on_every_tier() {
    let files =
        [("eia1_nia1", Suite::Eea1Eia1), ("eia2_nia2", Suite::Eea2Eia2), ("eia3_nia3", Suite::Eea3Eia3)];
    for (file, suite) in files {
        let mut run = 0;
        for v in vectors(file) {
            let (message, bits) = (octets(&v, "message"), number(&v, "length_bits"));
            // Frames have a header and whole octets.
            if bits % 8 != 0 || bits / 8 < Job::HEADER_LEN {
                continue;
            }
            let key = octets(&v, "key").try_into().unwrap();
            on_every_tier(
                suite,
                (&[0; 16], key),
                &job(&v, true),
                &message[..bits / 8],
                |kernel, data, mac| {
                    assert_eq!(
                        hex::encode(mac),
                        v["mac"].as_str().unwrap(),
                        "{suite} {kernel} {}",
                        v["name"]
                    );
                    assert_eq!(*data, message[Job::HEADER_LEN..bits / 8]);
                },
            );
            run += 1;
        }
        assert!(run >= 3, "{file}: {run}");
    }
}
