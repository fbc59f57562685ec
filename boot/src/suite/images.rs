//! Builds the programs that the steps boot, once, and finds them in Cargo's messages.

use core::fmt;
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

/// A program that a step boots.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Image {
    /// The main program.
    Main,
    /// The main program, optimised.
    Release,
    /// An example of the kernel.
    Example(String),
    /// The same, optimised.
    ReleaseExample(String),
    /// A test image.
    Test(String),
    /// The same, optimised.
    ReleaseTest(String),
    /// A benchmark image, optimised.
    Bench(String),
}

impl fmt::Display for Image {
    /// As the cargo command that boots it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Main => f.write_str("cargo run"),
            Self::Release => f.write_str("cargo run --release"),
            Self::Example(name) => write!(f, "cargo run --example {name}"),
            Self::ReleaseExample(name) => write!(f, "cargo run --release --example {name}"),
            Self::Test(name) => write!(f, "cargo test --test {name}"),
            Self::ReleaseTest(name) => write!(f, "cargo test --release --test {name}"),
            Self::Bench(name) => write!(f, "cargo bench --bench {name}"),
        }
    }
}

/// The cargo commands that build everything, as their arguments.
pub const BUILDS: [&[&str]; 6] = [
    &["build", "--package", "boot", "--bin", "boot", "--target", "host-tuple"],
    &["build", "--package", "gzero", "--bins", "--examples"],
    &["build", "--package", "gzero", "--bins", "--examples", "--release"],
    &["test", "--package", "tests", "--no-run"],
    &["test", "--package", "tests", "--no-run", "--release", "--test", "million"],
    &["bench", "--package", "tests", "--no-run"],
];

/// Makes Cargo write what it built to standard output, and what the compiler says to standard error.
pub const MESSAGES: &str = "--message-format=json-render-diagnostics";

/// Where the built programs are.
#[derive(Debug, Default)]
pub struct Images {
    /// The runner.
    pub boot: Option<PathBuf>,
    programs: BTreeMap<Image, PathBuf>,
}

impl Images {
    /// The file of a program, if it was built.
    pub fn path(&self, image: &Image) -> Option<&PathBuf> {
        self.programs.get(image)
    }

    /// Takes note of the programs in Cargo's messages, one JSON object a line.
    pub fn read(&mut self, messages: &str) {
        for line in messages.lines() {
            if let Ok(message) = serde_json::from_str::<Value>(line) {
                self.note(&message);
            }
        }
    }

    fn note(&mut self, message: &Value) -> Option<()> {
        let path = PathBuf::from(message["executable"].as_str()?);
        let name = message["target"]["name"].as_str()?;
        let optimised = message["profile"]["debug_assertions"] == Value::Bool(false);
        let image = match (message["target"]["kind"][0].as_str()?, name) {
            ("bin", "boot") => {
                self.boot = Some(path);
                return None;
            }
            ("bin", "gzero") if optimised => Image::Release,
            ("bin", "gzero") => Image::Main,
            ("example", name) if optimised => Image::ReleaseExample(name.to_owned()),
            ("example", name) => Image::Example(name.to_owned()),
            ("test", name) if optimised => Image::ReleaseTest(name.to_owned()),
            ("test", name) => Image::Test(name.to_owned()),
            ("bench", name) => Image::Bench(name.to_owned()),
            _ => return None,
        };
        self.programs.insert(image, path);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_cargos_messages() {
        let line = |kind: &str, name: &str, debug: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"kind":["{kind}"],"name":"{name}"}},"profile":{{"debug_assertions":{debug}}},"executable":"/t/{name}"}}"#
            )
        };
        let text = [
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"sched"},"executable":null}"#
                .to_owned(),
            "Compiling".to_owned(),
            line("bin", "boot", true),
            line("bin", "gzero", true),
            line("example", "hello", true),
            line("example", "bye", false),
            line("test", "park", true),
            line("test", "many", false),
            line("bench", "figures", false),
        ];
        let mut images = Images::default();
        images.read(&text.join("\n"));
        assert_eq!(images.boot, Some("/t/boot".into()));
        for (image, path) in [
            (Image::Main, Some("/t/gzero")),
            (Image::Release, None),
            (Image::Bench("figures".to_owned()), Some("/t/figures")),
            (Image::Example("hello".to_owned()), Some("/t/hello")),
            (Image::ReleaseExample("bye".to_owned()), Some("/t/bye")),
            (Image::Test("park".to_owned()), Some("/t/park")),
            (Image::ReleaseTest("many".to_owned()), Some("/t/many")),
        ] {
            assert_eq!(images.path(&image), path.map(PathBuf::from).as_ref(), "{image}");
        }
    }
}
