//! Templates as files: a folder each, with `template.toml`, and for each locale
//! `{locale}.subject.txt`, `{locale}.txt`, and `{locale}.mjml` or `{locale}.html`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::manifest::Manifest;
use super::template::TemplateError;

const MANIFEST: &str = "template.toml";

/// The template that is always there, under this name.
pub(crate) const PLAIN: &str = "plain";

/// A template as it was written, with all that it needs.
#[derive(Debug)]
pub(super) struct TemplateFolder {
    pub(super) name: String,
    pub(super) manifest: Manifest,
    /// By the locale, as the file names spell it.
    pub(super) locales: BTreeMap<String, LocaleFiles>,
}

/// A mail in one language.
#[derive(Debug)]
pub(super) struct LocaleFiles {
    pub(super) subject: TemplateFile,
    pub(super) body: Body,
    pub(super) text: TemplateFile,
}

#[derive(Debug)]
pub(super) enum Body {
    Html(TemplateFile),
    Mjml(TemplateFile),
}

#[derive(Debug)]
pub(super) struct TemplateFile {
    pub(super) path: PathBuf,
    pub(super) source: String,
}

/// The built-in templates, and those in the folder, which may replace them.
pub(super) fn read_all(folder: Option<&Path>) -> Result<Vec<TemplateFolder>, TemplateError> {
    let mut templates = vec![arrange(PLAIN.to_owned(), built_in())?];
    for (path, name) in folder.map(entries).transpose()?.unwrap_or_default() {
        if path.is_dir() {
            templates.retain(|template| template.name != name);
            templates.push(arrange(name, read_files(&path)?)?);
        }
    }
    Ok(templates)
}

/// What is compiled in: a server without a templates folder sends mails too.
fn built_in() -> Vec<TemplateFile> {
    macro_rules! files {
        ($($name:literal),+ $(,)?) => {
            vec![$(TemplateFile {
                path: PathBuf::from(concat!("plain/", $name)),
                source: include_str!(concat!("plain/", $name)).to_owned(),
            }),+]
        };
    }
    files![
        "template.toml",
        "de.mjml",
        "de.subject.txt",
        "de.txt",
        "en.mjml",
        "en.subject.txt",
        "en.txt",
        "tr.mjml",
        "tr.subject.txt",
        "tr.txt",
    ]
}

fn read_files(folder: &Path) -> Result<Vec<TemplateFile>, TemplateError> {
    let mut files = Vec::new();
    for (path, _) in entries(folder)? {
        let source = fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
        files.push(TemplateFile { path, source });
    }
    Ok(files)
}

/// What is in a folder, in the order of the names. Hidden files are none of ours.
fn entries(folder: &Path) -> Result<Vec<(PathBuf, String)>, TemplateError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let path = entry.map_err(|error| unreadable(folder, error))?.path();
        match file_name(&path) {
            Some(name) if name.starts_with('.') => {}
            Some(name) => entries.push((path.clone(), name.to_owned())),
            None => return Err(TemplateError::UnexpectedFile { file: path }),
        }
    }
    entries.sort();
    Ok(entries)
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn unreadable(path: &Path, source: io::Error) -> TemplateError {
    TemplateError::Read {
        file: path.to_owned(),
        source,
    }
}

/// The parts of one locale, as far as they were found.
#[derive(Default)]
struct Parts {
    subject: Option<TemplateFile>,
    body: Option<Body>,
    text: Option<TemplateFile>,
}

fn arrange(name: String, files: Vec<TemplateFile>) -> Result<TemplateFolder, TemplateError> {
    let mut manifest = None;
    let mut parts: BTreeMap<String, Parts> = BTreeMap::new();
    for file in files {
        // The longer ending first: the shorter one fits it too.
        let part = |ending| {
            let locale = file_name(&file.path)?.strip_suffix(ending)?;
            is_locale(locale).then(|| locale.to_owned())
        };
        if file_name(&file.path) == Some(MANIFEST) {
            manifest = Some(parse_manifest(file)?);
        } else if let Some(locale) = part(".subject.txt") {
            parts.entry(locale).or_default().subject = Some(file);
        } else if let Some(locale) = part(".txt") {
            parts.entry(locale).or_default().text = Some(file);
        } else if let Some(locale) = part(".mjml") {
            add_body(parts.entry(locale).or_default(), Body::Mjml(file))?;
        } else if let Some(locale) = part(".html") {
            add_body(parts.entry(locale).or_default(), Body::Html(file))?;
        } else {
            return Err(TemplateError::UnexpectedFile { file: file.path });
        }
    }
    let missing = |file: String| TemplateError::MissingFile {
        template: name.clone(),
        file,
    };
    let manifest = manifest.ok_or_else(|| missing(MANIFEST.to_owned()))?;
    let mut locales = BTreeMap::new();
    for (locale, parts) in parts {
        let needed = |ending| missing(format!("{locale}.{ending}"));
        let files = LocaleFiles {
            subject: parts.subject.ok_or_else(|| needed("subject.txt"))?,
            body: parts.body.ok_or_else(|| needed("mjml"))?,
            text: parts.text.ok_or_else(|| needed("txt"))?,
        };
        locales.insert(locale, files);
    }
    if !locales.contains_key(&manifest.default_locale) {
        return Err(missing(format!("{}.subject.txt", manifest.default_locale)));
    }
    Ok(TemplateFolder {
        name,
        manifest,
        locales,
    })
}

/// Two bodies would leave it to chance which one is sent.
fn add_body(parts: &mut Parts, body: Body) -> Result<(), TemplateError> {
    if parts.body.is_some() {
        let (Body::Html(file) | Body::Mjml(file)) = body;
        return Err(TemplateError::UnexpectedFile { file: file.path });
    }
    parts.body = Some(body);
    Ok(())
}

fn parse_manifest(file: TemplateFile) -> Result<Manifest, TemplateError> {
    toml::from_str(&file.source).map_err(|error| {
        let before = error.span().map_or("", |span| &file.source[..span.start]);
        TemplateError::Syntax {
            line: 1 + before.matches('\n').count(),
            file: file.path,
            reason: error.message().to_owned(),
        }
    })
}

/// Whether it looks like a language tag, such as `de` or `zh-Hant-TW`.
fn is_locale(text: &str) -> bool {
    let mut subtags = text.split('-');
    let language = subtags.next().unwrap_or_default();
    let word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (2..=3).contains(&language.len())
        && language.bytes().all(|byte| byte.is_ascii_alphabetic())
        && subtags.all(|subtag| (1..=8).contains(&subtag.len()) && word(subtag))
}
