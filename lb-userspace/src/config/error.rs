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

    /// The first one on one line, and how many more there are.
    pub fn one_line(&self) -> String {
        let first = self.diagnostics.first().map(Diagnostic::one_line).unwrap_or_default();
        match self.diagnostics.len() {
            0 | 1 => first,
            faults => format!("{first} (and {} more: weir check shows them)", faults - 1),
        }
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
        match self.labels.first().map(|label| self.source.place(label.span.start)) {
            Some((file, position)) => (file, Some(position)),
            None => (self.source.name(), None),
        }
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
        for (text, (file, (related, column))) in self.related() {
            line += &format!(", {text}: {file}:{related}:{column}");
        }
        if !self.help.is_empty() {
            line += &format!(" ({})", self.help);
        }
        normalize_untrusted_str(&line)
    }

    /// `{"level", "file", "line", "column", "message", "help", "related": [{"file", "line", "column", "message"}]}`; line
    /// and column are null if the file could not be read, help is null where there is none.
    pub fn to_json(&self) -> Value {
        let (file, place) = self.place();
        let related = self.related().map(
            |(text, (file, (line, column)))| json!({"file": file, "line": line, "column": column, "message": text}),
        );
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
    fn related(&self) -> impl Iterator<Item = (&str, Place<'_>)> {
        self.labels.iter().skip(1).map(|label| (label.text.as_str(), self.source.place(label.span.start)))
    }

    /// In the manner of rustc, with the lines concerned and a caret under the fault.
    pub fn render(&self, color: bool) -> String {
        let level = match self.level {
            Level::Error => Title::ERROR,
            Level::Warning => Title::WARNING,
        };
        let mut group = level.primary_title(&self.message).elements(self.excerpts());
        if self.labels.is_empty() {
            group = group.element(Origin::path(self.source.name()));
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
        let (file, (number, _)) = self.source.place(start);
        let mut here =
            self.labels.iter().enumerate().filter(|(_, label)| self.source.line_of(label.span.start) == line);
        if text.len() > LONGEST_LINE_SHOWN {
            let column = here.next().map_or(1, |(_, label)| self.source.place(label.span.start).1.1);
            return Origin::path(file).line(number).char_column(column).into();
        }
        let annotations = here.map(|(index, label)| {
            let kind = if index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            let within = |offset: usize| text.floor_char_boundary(offset.saturating_sub(start).min(text.len()));
            let annotation = kind.span(within(label.span.start)..within(label.span.end));
            if label.text.is_empty() { annotation } else { annotation.label(&label.text) }
        });
        Snippet::source(text).line_start(number).path(file).annotations(annotations).into()
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// A file, line and column.
type Place<'a> = (&'a str, (usize, usize));

/// The text of a configuration: that of one file, or of several one behind the other, so that a place is one number.
#[derive(Debug)]
pub struct Source {
    /// All of it.
    text: String,
    /// Never empty, in the order of the text.
    files: Vec<SourceFile>,
    /// Where each line starts; the first is 0.
    line_starts: Vec<usize>,
}

#[derive(Debug)]
struct SourceFile {
    name: String,
    start: usize,
}

impl Source {
    /// One file.
    pub fn new(name: &str, text: &str) -> Self {
        Self::join([(name, text)])
    }

    /// Several. Finds the lines once, so that a place is cheap however large the files.
    pub fn join<'a>(named: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let (mut text, mut files) = (String::new(), Vec::new());
        for (name, content) in named {
            if !files.is_empty() {
                // The place behind the last character of a file is still of that file.
                text.push('\n');
            }
            files.push(SourceFile { name: name.to_owned(), start: text.len() });
            text.push_str(content);
        }
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Source { text, files, line_starts }
    }

    /// The first file's name.
    pub fn name(&self) -> &str {
        self.files.first().map_or("", |file| &file.name)
    }

    /// Where each file starts.
    pub fn starts(&self) -> impl Iterator<Item = usize> {
        self.files.iter().map(|file| file.start)
    }

    /// Where the first file ends.
    pub fn first_end(&self) -> usize {
        self.files.get(1).map_or(self.text.len(), |second| second.start - 1)
    }

    /// The text of a span.
    pub fn slice(&self, span: &Span) -> &str {
        self.text.get(span.clone()).unwrap_or("")
    }

    /// The file, and line and column in it, both from 1; the column counts characters.
    fn place(&self, offset: usize) -> Place<'_> {
        let file = self.files.partition_point(|file| file.start <= offset).saturating_sub(1);
        let (name, first) = self.files.get(file).map_or(("", 0), |file| (&file.name, self.line_of(file.start)));
        let line = self.line_of(offset);
        let (start, text) = self.line(line);
        let before = text.floor_char_boundary(offset.saturating_sub(start).min(text.len()));
        (name, (line - first + 1, text[..before].chars().count() + 1))
    }

    /// Which line of all, from 0.
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
