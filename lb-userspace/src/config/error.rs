//! What is said about a configuration: the place, the fault and the way out. What is a fault is decided elsewhere.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{
    AnnotationKind, Element, Group, Level as Title, Origin, Renderer, Snippet, normalize_untrusted_str,
};
use serde_json::{Value, json};

/// Bytes of a line beyond which line and column stand for it.
const LONGEST_LINE_SHOWN: usize = 4096;

/// Bytes of the source.
pub type Span = Range<usize>;

/// Why there is no configuration: one diagnostic for each fault found, in file order.
#[derive(Clone, Debug)]
pub struct ConfigError {
    /// Never empty.
    pub diagnostics: Vec<Diagnostic>,
}

impl ConfigError {
    /// Every diagnostic in the manner of rustc, a blank line between them.
    pub fn render(&self, color: bool) -> String {
        let rendered: Vec<String> = self.diagnostics.iter().map(|diagnostic| diagnostic.render(color)).collect();
        rendered.join("\n\n")
    }

    /// The same for programs: a list of objects, see [`Diagnostic::to_json`].
    pub fn to_json(&self) -> Value {
        self.diagnostics.iter().map(Diagnostic::to_json).collect()
    }
}

impl From<Vec<Diagnostic>> for ConfigError {
    fn from(diagnostics: Vec<Diagnostic>) -> Self {
        ConfigError { diagnostics }
    }
}

impl From<Diagnostic> for ConfigError {
    fn from(diagnostic: Diagnostic) -> Self {
        ConfigError { diagnostics: vec![diagnostic] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for ConfigError {}

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Weir does not start with this.
    Error,
    /// Weir starts, and says so.
    Warning,
}

/// One thing to say about a configuration.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    level: Level,
    message: String,
    help: String,
    /// The first is the place, the others belong to it. None if the file could not be read.
    labels: Vec<Label>,
    source: Arc<Source>,
}

#[derive(Clone, Debug)]
struct Label {
    span: Span,
    text: String,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(source: &Arc<Source>, span: Span, message: impl Into<String>) -> Self {
        Self::unplaced(source, Level::Error, message).label(span, "")
    }

    /// A warning at a place.
    pub fn warning(source: &Arc<Source>, span: Span, message: impl Into<String>) -> Self {
        Self::unplaced(source, Level::Warning, message).label(span, "")
    }

    /// An error that concerns a file as a whole.
    pub fn of_file(name: &str, message: impl Into<String>) -> Self {
        Self::unplaced(&Arc::new(Source::new(name, "")), Level::Error, message)
    }

    fn unplaced(source: &Arc<Source>, level: Level, message: impl Into<String>) -> Self {
        let (message, source) = (message.into(), Arc::clone(source));
        Diagnostic { level, message, help: String::new(), labels: Vec::new(), source }
    }

    /// Adds the way out.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// Adds a second place.
    pub fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Writes beside the caret.
    pub fn at_caret(mut self, text: impl Into<String>) -> Self {
        if let Some(first) = self.labels.first_mut() {
            first.text = text.into();
        }
        self
    }

    /// Error or warning.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The fault, in a sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The file, and line and column (in characters) from 1 unless the file could not be read.
    pub fn place(&self) -> (&str, Option<(usize, usize)>) {
        (&self.source.name, self.labels.first().map(|label| self.source.position(label.span.start)))
    }

    /// Where it starts, to sort by.
    pub(super) fn offset(&self) -> usize {
        self.labels.first().map_or(0, |label| label.span.start)
    }

    /// All of it on one line, for a log.
    pub fn one_line(&self) -> String {
        let (file, place) = self.place();
        let mut line = match place {
            Some((line, column)) => format!("{file}:{line}:{column}: {}", self.message),
            None => format!("{file}: {}", self.message),
        };
        for (text, (related, column)) in self.related() {
            line += &format!(", {text}: {file}:{related}:{column}");
        }
        if !self.help.is_empty() {
            line += &format!(" ({})", self.help);
        }
        normalize_untrusted_str(&line)
    }

    /// `{"level", "file", "line", "column", "message", "help", "related": [{"line", "column", "message"}]}`; line and
    /// column are null if the file could not be read, help is null where there is none.
    pub fn to_json(&self) -> Value {
        let (file, place) = self.place();
        let related =
            self.related().map(|(text, (line, column))| json!({"line": line, "column": column, "message": text}));
        json!({
            "level": match self.level { Level::Error => "error", Level::Warning => "warning" },
            "file": file,
            "line": place.map(|(line, _)| line),
            "column": place.map(|(_, column)| column),
            "message": self.message,
            "help": (!self.help.is_empty()).then_some(&self.help),
            "related": related.collect::<Value>(),
        })
    }

    /// The places besides the first.
    fn related(&self) -> impl Iterator<Item = (&str, (usize, usize))> {
        self.labels.iter().skip(1).map(|label| (label.text.as_str(), self.source.position(label.span.start)))
    }

    /// In the manner of rustc, with the lines concerned and a caret under the fault.
    pub fn render(&self, color: bool) -> String {
        let level = match self.level {
            Level::Error => Title::ERROR,
            Level::Warning => Title::WARNING,
        };
        let mut group = level.primary_title(&self.message).elements(self.excerpts());
        if self.labels.is_empty() {
            group = group.element(Origin::path(&self.source.name));
        }
        if !self.help.is_empty() {
            group = group.element(Title::HELP.message(normalize_untrusted_str(&self.help)));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let report: [Group<'_>; 1] = [group];
        renderer.render(&report)
    }

    /// One for each line that has a label. Only these lines are handed on: the cost does not grow with the file.
    fn excerpts(&self) -> Vec<Element<'_>> {
        let mut lines: Vec<usize> = Vec::new();
        for label in &self.labels {
            let line = self.source.line_of(label.span.start);
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        lines.into_iter().map(|line| self.excerpt(line)).collect()
    }

    fn excerpt(&self, line: usize) -> Element<'_> {
        let (start, text) = self.source.line(line);
        let mut here =
            self.labels.iter().enumerate().filter(|(_, label)| self.source.line_of(label.span.start) == line);
        if text.len() > LONGEST_LINE_SHOWN {
            let column = here.next().map_or(1, |(_, label)| self.source.position(label.span.start).1);
            return Origin::path(&self.source.name).line(line + 1).char_column(column).into();
        }
        let annotations = here.map(|(index, label)| {
            let kind = if index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            let within = |offset: usize| text.floor_char_boundary(offset.saturating_sub(start).min(text.len()));
            let annotation = kind.span(within(label.span.start)..within(label.span.end));
            if label.text.is_empty() { annotation } else { annotation.label(&label.text) }
        });
        Snippet::source(text).line_start(line + 1).path(&self.source.name).annotations(annotations).into()
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// The text of a configuration, and what it is called.
#[derive(Debug)]
pub struct Source {
    /// The file's path.
    pub name: String,
    /// All of it.
    pub text: String,
    /// Where each line starts; the first is 0.
    line_starts: Vec<usize>,
}

impl Source {
    /// Finds the lines once, so that a place is cheap however large the file.
    pub fn new(name: &str, text: &str) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Source { name: name.to_owned(), text: text.to_owned(), line_starts }
    }

    /// The text of a span.
    pub fn slice(&self, span: &Span) -> &str {
        self.text.get(span.clone()).unwrap_or("")
    }

    /// Line and column, both from 1; the column counts characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.line_of(offset);
        let (start, text) = self.line(line);
        let before = text.floor_char_boundary(offset.saturating_sub(start).min(text.len()));
        (line + 1, text[..before].chars().count() + 1)
    }

    /// Which line, from 0.
    fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= offset) - 1
    }

    /// Where a line starts, and its text without the line's end.
    fn line(&self, line: usize) -> (usize, &str) {
        let start = self.line_starts[line];
        let end = self.line_starts.get(line + 1).copied().unwrap_or(self.text.len());
        (start, self.text[start..end].trim_end_matches(['\n', '\r']))
    }
}

/// A value as an error names it: quoted, without control characters, and cut if it is long.
pub fn quoted(value: &str) -> String {
    match value.char_indices().nth(60) {
        Some((end, _)) => format!("{:?}...", &value[..end]),
        None => format!("{value:?}"),
    }
}

/// The candidate that a typo most likely stands for.
pub fn closest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let distances = candidates.map(|candidate| (strsim::osa_distance(&word, candidate), candidate));
    distances.filter(|(distance, candidate)| *distance <= (candidate.len() / 3).clamp(1, 3)).min().map(|(_, c)| c)
}
