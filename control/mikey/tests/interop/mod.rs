//! wolfCrypt as the other side: a small C program, built here, behind a pipe.
#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What the C program is asked to do.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "the tests and the bench each use a part")]
pub(crate) enum Operation {
    EccsiMake = 1,
    EccsiValidate,
    EccsiSign,
    EccsiVerify,
    SakkeMake,
    SakkeValidate,
    SakkeEncapsulate,
    SakkeDecapsulate,
    EccsiSignBench = 20,
    EccsiVerifyBench,
    SakkeEncapsulateBench,
    SakkeDecapsulateBench,
}

/// Builds where the library and its headers are installed, with the two schemes in.
const PROBE: &str = "#include <wolfssl/options.h>\n#include <wolfssl/wolfcrypt/eccsi.h>\n\
    #include <wolfssl/wolfcrypt/sakke.h>\n\
    int main(void) { EccsiKey e; SakkeKey s; return wc_InitEccsiKey(&e, 0, 0) + wc_InitSakkeKey(&s, 0, 0); }\n";

/// Says why there is nothing to compare with: past the test harness, which would keep it to itself.
pub(crate) fn skipped(reason: &str) {
    let _ = writeln!(std::io::stderr(), "comparison with wolfCrypt skipped: {reason}");
}

/// The running program.
pub(crate) struct WolfCrypt {
    child: Child,
    to: Option<ChildStdin>,
    from: ChildStdout,
    program: PathBuf,
}

impl WolfCrypt {
    /// Builds and starts the program; where that is not possible, the reason.
    pub(crate) fn start(name: &str) -> Result<Self, String> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
        // Several runs may be under way at once.
        let name = format!("{name}-{}", std::process::id());
        let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("wolfcrypt-{name}"));
        let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let compiler = cc::Build::new()
            .cargo_metadata(false)
            .host(&host)
            .target(&host)
            .opt_level(2)
            .out_dir(env!("CARGO_TARGET_TMPDIR"))
            .try_get_compiler()
            .map_err(|error| format!("no C compiler: {error}"))?;
        let build = |source: &PathBuf| {
            let mut command = compiler.to_command();
            command.args(["-Wall", "-Werror"]).arg(source).arg("-o").arg(&program).arg("-lwolfssl");
            command.output().map_err(|error| format!("the C compiler did not run: {error}"))
        };
        // Only a missing library is a reason to skip: a program that does not build against it is a failure.
        let probe = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("probe-{name}.c"));
        std::fs::write(&probe, PROBE)
            .map_err(|error| format!("cannot write {}: {error}", probe.display()))?;
        let probed = build(&probe)?.status.success();
        let _ = std::fs::remove_file(&probe);
        if !probed {
            return Err(
                "no wolfCrypt with ECCSI and SAKKE here; on Debian: apt-get install libwolfssl-dev".into()
            );
        }
        let built = build(&folder.join("wolfcrypt.c"))?;
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let mut child = Command::new(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("the C program did not start: {error}"))?;
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Ok(Self { child, to: Some(to), from, program })
    }

    /// One request: the answer's fields, or nothing where wolfCrypt refused.
    pub(crate) fn ask(&mut self, operation: Operation, fields: &[&[u8]]) -> Option<Vec<Vec<u8>>> {
        let mut request = vec![operation as u8, u8::try_from(fields.len()).unwrap()];
        for field in fields {
            request.extend(u32::try_from(field.len()).unwrap().to_be_bytes());
            request.extend_from_slice(field);
        }
        let to = self.to.as_mut().unwrap();
        to.write_all(&request).unwrap();
        to.flush().unwrap();
        let mut head = [0; 2];
        self.from.read_exact(&mut head).unwrap();
        let answer = (0..head[1])
            .map(|_| {
                let mut length = [0; 4];
                self.from.read_exact(&mut length).unwrap();
                let mut field = vec![0; u32::from_be_bytes(length) as usize];
                self.from.read_exact(&mut field).unwrap();
                field
            })
            .collect::<Vec<_>>();
        // A call that fails on an altered message (a point off the curve, say) is a refusal as well.
        (head[0] == 0).then_some(answer)
    }
}

impl Drop for WolfCrypt {
    fn drop(&mut self) {
        drop(self.to.take()); // the end of its input ends the program
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.program);
    }
}
