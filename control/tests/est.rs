//! EST between our own client and server, and with curl and openssl as a foreign client (skipped where they are missing).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use getrandom::SysRng;
use pc5_control::credential::{
    Clock, Freshness, Judge, LongTermKey, Need, Plmn, Refusal, Role, SoftwareKey, TrustEntry,
};
use pc5_control::pki::{Authority, Curve, Folder, Validity, read_certificates, serial_of};
use pc5_control::service::est::client::{Client, EstError};
use pc5_control::service::est::server::{Config, Device, Server, World};
use pc5_control::service::https;
use rand_core::UnwrapErr;
use zeroize::Zeroizing;

const MEMBER: Need = Need { role: Role::Member, group: None };

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn clock() -> Clock {
    Clock { now: now(), floor: 0 }
}

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

fn plmn(s: &str) -> Plmn {
    s.parse().unwrap()
}

/// A home network with an intermediate that issues, a foreign network, and a server on loopback.
struct Network {
    temp: tempfile::TempDir,
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<()>,
    server: Arc<Server>,
}

impl Network {
    async fn start() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        let validity = Validity::days(now(), 365);
        let home = Authority::root(plmn("001-01"), Curve::P256, validity, &mut rng()).unwrap();
        let ops = home.intermediate("ops", Curve::P384, validity, &mut rng()).unwrap();
        let key = SoftwareKey::generate(&mut rng());
        let names = ["localhost".to_string(), "127.0.0.1".to_string()];
        let tls = home.issue_server(&names, validity, key.public_key(), &mut rng()).unwrap();
        let foreign = Authority::root(plmn("002-02"), Curve::P256, validity, &mut rng()).unwrap();
        let mut home = Folder::create(&path("home"), home).unwrap();
        home.publish_crl(now(), now() + 86_400).unwrap();
        Folder::create(&path("ops"), ops).unwrap();
        Folder::create(&path("foreign"), foreign).unwrap();

        let device = |id: &str, secret: Option<&str>| {
            let secret = secret.map(|s| Zeroizing::new(s.to_string()));
            let identity = format!("pc5:001-01:ue:{id}").parse().unwrap();
            let device = Device {
                identity,
                roles: vec![Role::Member],
                groups: vec!["a0b0c0".parse().unwrap()],
                secret,
            };
            (id.to_string(), device)
        };
        let config = Config {
            folder: path("ops"),
            root: Some(path("home/ca.pem")),
            foreign: BTreeMap::from([(plmn("002-02"), vec![path("foreign/ca.pem")])]),
            devices: BTreeMap::from([device("ue-1", Some("open:sesame")), device("ue-2", None)]),
            days: 30,
            crl_days: 7,
        };
        let world = World { now: Box::new(now), rng: Mutex::new(Box::new(rng())) };
        let server = Server::new(config, world);
        assert!(server.refresh_crl().unwrap());
        assert!(!server.refresh_crl().unwrap());
        let key = key.to_pkcs8_der().unwrap().to_vec();
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key).into();
        let tls = https::server_tls(vec![tls], key, &server.client_roots().unwrap()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let router = server.router();
        let served = tokio::spawn(async move {
            https::serve(listener, tls, router, async {
                let _ = stopped.await;
            })
            .await;
        });
        Self { temp, address, stop: Some(stop), served, server }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    fn root(&self, name: &str) -> Vec<u8> {
        read_certificates(&self.temp.path().join(name).join("ca.pem")).unwrap().swap_remove(0)
    }

    fn client(&self) -> Client {
        Client::new(&self.url(), vec![self.root("home")])
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.served.await.unwrap();
    }
}

fn status(error: EstError) -> u16 {
    match error {
        EstError::Refused { status, .. } => status.as_u16(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_device_enrols_and_is_believed_offline() {
    let network = Network::start().await;
    let client = network.client();
    let identity = "pc5:001-01:ue:ue-1".parse().unwrap();
    let key = SoftwareKey::generate(&mut rng());
    let chain = client.enrol(&identity, "open:sesame", &key).await.unwrap();
    assert_eq!(chain.len(), 2);

    // Roots and CRLs of the visit are all that a judge needs afterwards.
    let entries = client.trust_entries(plmn("001-01"), &[plmn("002-02"), plmn("003-03")]).await.unwrap();
    let plmns: Vec<String> = entries.iter().map(|e| e.plmn().to_string()).collect();
    assert_eq!(plmns, ["001-01", "002-02"]);
    assert_eq!(entries[1].root(), network.root("foreign"));
    let mut judge = Judge::new(entries, Freshness::Refuse);
    judge.learn(&chain, clock()).unwrap();
    let root_crl = std::fs::read(network.temp.path().join("home/crl.der")).unwrap();
    judge.install_crl(&root_crl, clock()).unwrap();
    judge.install_crl(&client.crl(&client.crl_url()).await.unwrap(), clock()).unwrap();
    let leaf = judge.judge(&chain, MEMBER, clock()).unwrap();
    assert_eq!((&leaf.identity, &leaf.public_key), (&identity, key.public_key()));

    // A fresh key, authorised by the present certificate.
    let present: Arc<dyn LongTermKey> = Arc::new(key);
    let next = SoftwareKey::generate(&mut rng());
    let renewed = client.reenrol(&identity, (Arc::clone(&present), &chain), &next).await.unwrap();
    let leaf = judge.judge(&renewed, MEMBER, clock()).unwrap();
    assert_eq!((&leaf.identity, &leaf.public_key), (&identity, next.public_key()));

    // Revoked, it is refused by the server and, with the next CRL, by everybody.
    let mut ops = Folder::open(&network.temp.path().join("ops")).unwrap();
    ops.authority_mut().revoke(&serial_of(&chain[0]).unwrap(), now());
    ops.publish_crl(now(), now() + 86_400).unwrap();
    drop(ops);
    let refused = client.reenrol(&identity, (present, &chain), &next).await.unwrap_err();
    assert_eq!(status(refused), 403);
    judge.install_crl(&client.crl(&client.crl_url()).await.unwrap(), clock()).unwrap();
    assert_eq!(judge.judge(&chain, MEMBER, clock()).unwrap_err(), Refusal::Revoked { position: 0 });
    judge.judge(&renewed, MEMBER, clock()).unwrap();
    network.stop().await;
}

#[tokio::test]
async fn strangers_are_turned_away() {
    let network = Network::start().await;
    let client = network.client();
    let key = SoftwareKey::generate(&mut rng());
    for (id, secret) in
        [("ue-1", "wrong"), ("ue-1", ""), ("ue-2", ""), ("ue-9", "no such device"), ("ue-9", "x")]
    {
        let identity = format!("pc5:001-01:ue:{id}").parse().unwrap();
        let error = client.enrol(&identity, secret, &key).await.unwrap_err();
        assert_eq!(status(error), 401, "{id} {secret}");
    }

    // Another network's certificate, even with a known name, re-enrols nobody.
    let foreign = Folder::open(&network.temp.path().join("foreign")).unwrap();
    let request = pc5_control::pki::Request {
        identity: "pc5:002-02:ue:ue-1".parse().unwrap(),
        roles: vec![Role::Member],
        groups: vec![],
        validity: Validity::days(now(), 1),
    };
    let device = foreign.authority().enrol(&request, &mut rng()).unwrap();
    let identity = "pc5:001-01:ue:ue-1".parse().unwrap();
    let present: Arc<dyn LongTermKey> = Arc::new(device.key);
    assert!(client.reenrol(&identity, (present, &device.chain), &key).await.is_err());

    // Nor does the home root's own certificate for somebody unknown, or one of another issuing CA.
    let home = Folder::open(&network.temp.path().join("home")).unwrap();
    for id in ["ue-1", "ue-7"] {
        let identity = format!("pc5:001-01:ue:{id}").parse().unwrap();
        let request = pc5_control::pki::Request { identity, ..request.clone() };
        let device = home.authority().enrol(&request, &mut rng()).unwrap();
        let present: Arc<dyn LongTermKey> = Arc::new(device.key);
        let error = client.reenrol(&request.identity, (present, &device.chain), &key).await.unwrap_err();
        assert_eq!(status(error), 403);
    }

    // A server that the own root does not vouch for is told nothing.
    let elsewhere = Client::new(&network.url(), vec![network.root("foreign")]);
    assert!(matches!(elsewhere.cacerts().await, Err(EstError::Https(_))));
    let error = elsewhere.enrol(&identity, "open:sesame", &key).await.unwrap_err();
    assert!(matches!(error, EstError::Https(_)));
    let plain = Client::new(&network.url().replace("https", "http"), vec![]);
    assert!(matches!(plain.cacerts().await, Err(EstError::Https(_))));
    assert!(network.server.client_roots().is_ok());
    network.stop().await;
}

fn run(folder: &Path, command: &str) -> (bool, String) {
    let out = Command::new("sh").current_dir(folder).args(["-c", command]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.success(), text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_and_openssl_as_a_foreign_client() {
    if !run(Path::new("/"), "curl --version && openssl version").0 {
        eprintln!("skipped: curl or openssl is not installed");
        return;
    }
    let network = Network::start().await;
    let folder = network.temp.path().to_path_buf();
    let est = format!("{}/.well-known/est", network.url());
    let curl = "curl -sS --cacert home/ca.pem";
    let ok = |command: &str| {
        let (ok, text) = run(&folder, command);
        assert!(ok, "{command}: {text}");
        text
    };
    ok(&format!("{curl} -o cacerts.b64 {est}/cacerts"));
    let text = ok("openssl base64 -d -in cacerts.b64 | openssl pkcs7 -inform DER -print_certs");
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 2, "{text}");
    ok(&format!("{curl} -o foreign.b64 {est}/plmn-002-02/cacerts"));
    let text = ok("openssl base64 -d -in foreign.b64 | openssl pkcs7 -inform DER -print_certs");
    assert!(text.contains("pc5 root 002-02"), "{text}");
    for (path, wanted) in [("plmn-009-09/cacerts", "404"), ("nonsense", "404"), ("simpleenroll", "405")] {
        let text = ok(&format!("{curl} -o /dev/null -w '%{{http_code}}' {est}/{path}"));
        assert_eq!(text, wanted, "{path}");
    }

    ok("openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ue.key -subj /CN=ue-1 \
        -outform DER -out ue.csr && openssl base64 -in ue.csr -out ue.b64");
    let post = |to: &str, more: &str, body: &str, out: &str| {
        ok(&format!(
            "{curl} {more} -H 'Content-Type: application/pkcs10' -H 'Content-Transfer-Encoding: base64' \
             --data-binary @{body} -o {out} -w '%{{http_code}}' {est}/{to}"
        ))
    };
    assert_eq!(post("simpleenroll", "-u ue-1:open:sesame", "ue.b64", "ue.p7"), "200");
    ok("openssl base64 -d -in ue.p7 | openssl pkcs7 -inform DER -print_certs -out ue.pem");
    let text = ok("openssl x509 -in ue.pem -noout -text");
    assert!(text.contains("URI:pc5:001-01:ue:ue-1") && text.contains("URI:pc5:group:a0b0c0"), "{text}");
    ok("openssl verify -x509_strict -CAfile home/ca.pem -untrusted ops/ca.pem ue.pem");
    assert_eq!(post("simpleenroll", "-u ue-1:wrong", "ue.b64", "no"), "401");
    assert_eq!(post("simpleenroll", "", "ue.b64", "no"), "401");
    assert_eq!(post("simpleenroll", "-u ue-1:open:sesame", "ue.key", "no"), "400");
    assert_eq!(post("simplereenroll", "", "ue.b64", "no"), "403");
    assert_eq!(post("simplereenroll", "--cert ue.pem --key ue.key", "ue.b64", "again.p7"), "200");
    ok("openssl base64 -d -in again.p7 | openssl pkcs7 -inform DER -print_certs -out again.pem");
    ok("openssl verify -x509_strict -CAfile home/ca.pem -untrusted ops/ca.pem again.pem");
    ok("head -c 100000 /dev/zero > large");
    // Refused by its length alone: curl reads 413, or finds the connection closed while it is still sending.
    let (_, text) = run(
        &folder,
        &format!(
            "{curl} -u ue-1:open:sesame --data-binary @large -o no -w '%{{http_code}}' {est}/simpleenroll"
        ),
    );
    assert!(text.contains("413") || text.contains("000"), "{text}");
    ok(&format!(
        "{curl} -o crl.der {}/pc5/crl.der && openssl crl -inform DER -in crl.der -CAfile ops/ca.pem -noout",
        network.url()
    ));

    // What openssl has in its hands is judged like anything else.
    let chain = read_certificates(&folder.join("again.pem")).unwrap();
    let entry = TrustEntry::new(plmn("001-01"), &network.root("home")).unwrap();
    let mut judge = Judge::new(vec![entry], Freshness::Refuse);
    judge.learn(&chain, clock()).unwrap();
    for crl in ["home/crl.der", "crl.der"] {
        judge.install_crl(&std::fs::read(folder.join(crl)).unwrap(), clock()).unwrap();
    }
    judge.judge(&chain, MEMBER, clock()).unwrap();
    network.stop().await;
}
