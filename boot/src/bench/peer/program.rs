//! Go's side as a program: found tools, one static file.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::args::root;
use crate::error::Error;

/// Where the sources lie in the checkout.
const SOURCES: &str = "tests/benches/go";
/// Where Debian's package golang-1.23-go puts its tool.
const DEBIANS_GO: &str = "/usr/lib/go-1.23/bin/go";

/// Where the peer's files are kept: the target folder, which git does not look at.
pub fn folder() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from).join("peer")
}

/// Builds the program in `folder` and gives its path. Nothing is downloaded: it has no dependencies.
///
/// # Errors
///
/// [`Error::Peer`] if there is no Go, or the compiler refuses.
pub fn build(folder: &Path) -> Result<PathBuf, Error> {
    fs::create_dir_all(folder).map_err(Error::io("make", folder))?;
    let (go, file) = (go(), folder.join("figures"));
    let mut command = Command::new(&go);
    command
        .current_dir(root().join(SOURCES))
        .args(["build", "-trimpath", "-buildvcs=false", "-o"])
        .arg(&file)
        .arg(".");
    // static, for any CPU of the architecture, with this very tool
    command.envs([("CGO_ENABLED", "0"), ("GOOS", "linux"), ("GOARCH", "amd64"), ("GOAMD64", "v1")]);
    command.envs([("GOTOOLCHAIN", "local"), ("GOPROXY", "off"), ("GOFLAGS", ""), ("GO111MODULE", "on")]);
    command.env("GOWORK", "off").env("GOCACHE", folder.join("cache"));
    let name = PathBuf::from(&go);
    let output = command.output().map_err(|error| {
        let name = name.display();
        Error::Peer(format!(
            "cannot start Go ({name}: {error}); run ./setup.sh --peer, or name it by GZERO_GO"
        ))
    })?;
    if output.status.success() {
        return Ok(file);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::Peer(format!("{} cannot build {SOURCES}: {}", name.display(), said.trim())))
}

fn go() -> OsString {
    let found = || Path::new(DEBIANS_GO).exists().then(|| DEBIANS_GO.into());
    env::var_os("GZERO_GO").or_else(found).unwrap_or_else(|| "go".into())
}
