//! Rust text, line by line, with code and comments apart.

/// A line of Rust: its code, with the insides of literals left out, and its comment, slashes included.
#[derive(Debug, Default)]
pub struct Line {
    pub code: String,
    pub comment: String,
}

/// Takes a file apart.
pub fn lines(text: &str) -> Vec<Line> {
    let mut inside = Inside::Code;
    text.lines().map(|line| inside.line(line)).collect()
}

/// What the end of a line of Rust is inside of.
#[derive(Clone, Copy, Debug)]
enum Inside {
    Code,
    /// A string with escapes.
    Text,
    /// A string without, closed by a quote and so many hashes.
    Raw(usize),
    /// A block comment, nested so deep.
    Comment(usize),
}

impl Inside {
    fn line(&mut self, text: &str) -> Line {
        let mut line = Line::default();
        let mut rest = text;
        while !rest.is_empty() {
            rest = &rest[self.step(rest, &mut line)..];
        }
        line
    }

    /// Moves over the next piece and returns its length.
    fn step(&mut self, rest: &str, line: &mut Line) -> usize {
        let first = rest.chars().next().map_or(0, char::len_utf8);
        match *self {
            Self::Code => self.step_code(rest, line),
            Self::Text if rest.starts_with('\\') => {
                first + rest[first..].chars().next().map_or(0, char::len_utf8)
            }
            Self::Text if rest.starts_with('"') => {
                line.code.push('"');
                self.enter(Self::Code, first)
            }
            Self::Raw(hashes) if rest[first..].starts_with(&"#".repeat(hashes)) && rest.starts_with('"') => {
                self.enter(Self::Code, first + hashes)
            }
            Self::Comment(depth) if rest.starts_with("/*") => self.enter(Self::Comment(depth + 1), 2),
            Self::Comment(1) if rest.starts_with("*/") => self.enter(Self::Code, 2),
            Self::Comment(depth) if rest.starts_with("*/") => self.enter(Self::Comment(depth - 1), 2),
            Self::Comment(_) => {
                line.comment.push_str(&rest[..first]);
                first
            }
            Self::Text | Self::Raw(_) => first,
        }
    }

    fn enter(&mut self, next: Self, length: usize) -> usize {
        *self = next;
        length
    }

    fn step_code(&mut self, rest: &str, line: &mut Line) -> usize {
        let first = rest.chars().next().map_or(0, char::len_utf8);
        if rest.starts_with("//") {
            line.comment.push_str(rest);
            return rest.len();
        }
        if rest.starts_with("/*") {
            return self.enter(Self::Comment(1), 2);
        }
        let hashes = rest[first..].chars().take_while(|c| *c == '#').count();
        if rest.starts_with('r') && rest[1 + hashes..].starts_with('"') {
            line.code.push_str("r\"\"");
            return self.enter(Self::Raw(hashes), 2 + hashes);
        }
        if rest.starts_with('\'') {
            line.code.push('\'');
            return character(rest);
        }
        if rest.starts_with('"') {
            *self = Self::Text;
        }
        line.code.push_str(&rest[..first]);
        first
    }
}

/// The length of a character literal; 1 for the tick of a lifetime.
fn character(rest: &str) -> usize {
    let mut inner = rest.char_indices().skip(1);
    match inner.next() {
        // The escaped character itself may be a tick.
        Some((_, '\\')) => inner.skip(1).find(|(_, c)| *c == '\'').map_or(1, |(at, _)| at + 1),
        _ => inner.next().filter(|(_, c)| *c == '\'').map_or(1, |(at, _)| at + 1),
    }
}

#[test]
fn code_and_comments_are_told_apart() {
    let text = "let a = \"// no \\\" comment\"; // one\nlet b = r#\"a \"/*\"#; /* two /* three */\nfour */ c('\"', '\\'', &'d e);";
    let lines = lines(text);
    let code: Vec<&str> = lines.iter().map(|line| line.code.as_str()).collect();
    assert_eq!(code, ["let a = \"\"; ", "let b = r\"\"; ", " c(', ', &'d e);"]);
    let comments: Vec<&str> = lines.iter().map(|line| line.comment.as_str()).collect();
    assert_eq!(comments, ["// one", " two  three ", "four "]);
}
