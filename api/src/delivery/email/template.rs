//! What mails are written with. Everything that can be wrong with a template is
//! found when it is loaded, not when the first mail is sent with it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use domain::notification::Severity;
use domain::quote;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use super::folder::{self, Body, LocaleFiles, PLAIN, TemplateFile, TemplateFolder};
use super::header::one_line;
use super::manifest::Variable;
use super::mjml;

/// What each template is given. Its own variables have other names.
const BUILT_IN: [&str; 9] = [
    "title",
    "body",
    "severity",
    "category",
    "link",
    "data",
    "user",
    "locale",
    "unsubscribe_url",
];

/// A template cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("cannot read {}", file.display())]
    Read {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}, line {line}: {reason}", file.display())]
    Syntax {
        file: PathBuf,
        line: usize,
        reason: String,
    },
    #[error("{} uses `{variable}`, which template.toml does not name", file.display())]
    UndeclaredVariable { file: PathBuf, variable: String },
    #[error(
        "the template {template} cannot name a variable `{variable}`: each has one of that name"
    )]
    ReservedVariable { template: String, variable: String },
    #[error("the template {template} has no file {file}")]
    MissingFile { template: String, file: String },
    #[error(
        "{} is no part of a template: those are template.toml, and for a locale such as `de` \
         de.subject.txt, de.txt, and either de.mjml or de.html",
        file.display()
    )]
    UnexpectedFile { file: PathBuf },
}

/// A notification cannot be written with the template it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("there is no template {}", quote(.0))]
    UnknownTemplate(String),
    #[error("the variables of a template are a JSON object")]
    NotAnObject,
    #[error("the template `{template}` needs the variable `{variable}`")]
    MissingVariable { template: String, variable: String },
    #[error("the template `{template}` has no variable {}", quote(variable))]
    UnknownVariable { template: String, variable: String },
}

/// A mail cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenderError {
    #[error(transparent)]
    Check(#[from] CheckError),
    /// Such as an attribute that a variable lacks.
    #[error("the template does not fit what it is given")]
    Template(#[from] minijinja::Error),
}

/// What a mail is written from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Letter<'a> {
    /// The plain one if none.
    pub(crate) template: Option<&'a str>,
    pub(crate) locale: Option<&'a str>,
    pub(crate) user_name: &'a str,
    pub(crate) title: &'a str,
    pub(crate) body: &'a str,
    pub(crate) severity: Severity,
    pub(crate) category: &'a str,
    /// An address, as `absolute_link` makes one.
    pub(crate) link: Option<&'a str>,
    pub(crate) unsubscribe_url: &'a str,
    pub(crate) data: Option<&'a serde_json::Value>,
    pub(crate) variables: Option<&'a serde_json::Value>,
}

/// A mail as it will be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// One line.
    pub(crate) subject: String,
    pub(crate) html: String,
    pub(crate) text: String,
    /// The language it is written in.
    pub(crate) locale: String,
}

/// What there is to know of a template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TemplateInfo {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) default_locale: String,
    pub(crate) locales: Vec<String>,
    pub(crate) variables: BTreeMap<String, Variable>,
}

/// All templates, ready to write with.
#[derive(Debug)]
pub(crate) struct Templates {
    environment: Environment<'static>,
    templates: BTreeMap<String, Template>,
}

#[derive(Debug)]
struct Template {
    info: TemplateInfo,
    defaults: BTreeMap<String, Value>,
}

impl Templates {
    /// The built-in templates and those of the folder, each a folder in it.
    pub(crate) fn load(folder: Option<&Path>) -> Result<Self, TemplateError> {
        let mut loaded = Self {
            environment: environment(),
            templates: BTreeMap::new(),
        };
        for template in folder::read_all(folder)? {
            loaded.add(template)?;
        }
        Ok(loaded)
    }

    /// Whether a notification may name this template with these variables.
    pub(crate) fn check(
        &self,
        name: &str,
        variables: Option<&serde_json::Value>,
    ) -> Result<(), CheckError> {
        let declared = &self.template(name)?.info.variables;
        let given = object(variables)?;
        for (variable, declaration) in declared {
            if declaration.default.is_none() && !given.clone().any(|(name, _)| name == variable) {
                return Err(CheckError::MissingVariable {
                    template: name.to_owned(),
                    variable: variable.clone(),
                });
            }
        }
        for (variable, _) in given {
            if !declared.contains_key(variable) {
                return Err(CheckError::UnknownVariable {
                    template: name.to_owned(),
                    variable: variable.clone(),
                });
            }
        }
        Ok(())
    }

    /// Writes a mail, in the language of the template that is nearest to the reader's.
    pub(crate) fn render(&self, letter: &Letter<'_>) -> Result<Rendered, RenderError> {
        let name = letter.template.unwrap_or(PLAIN);
        self.check(name, letter.variables)?;
        let template = self.template(name)?;
        let locale = template.info.locale_for(letter.locale);
        let context = template.context(letter, locale)?;
        let render = |part| {
            let part = self
                .environment
                .get_template(&part_name(name, locale, part))?;
            part.render(&context)
        };
        Ok(Rendered {
            subject: one_line(&render(Part::Subject)?),
            html: render(Part::Html)?,
            text: render(Part::Text)?,
            locale: locale.to_owned(),
        })
    }

    /// All templates, by name.
    pub(crate) fn list(&self) -> impl Iterator<Item = &TemplateInfo> {
        self.templates.values().map(|template| &template.info)
    }

    fn template(&self, name: &str) -> Result<&Template, CheckError> {
        let template = self.templates.get(name);
        template.ok_or_else(|| CheckError::UnknownTemplate(name.to_owned()))
    }

    fn add(&mut self, folder: TemplateFolder) -> Result<(), TemplateError> {
        let TemplateFolder {
            name,
            manifest,
            locales,
        } = folder;
        for variable in manifest.variables.keys() {
            if BUILT_IN.contains(&variable.as_str()) {
                return Err(TemplateError::ReservedVariable {
                    template: name,
                    variable: variable.clone(),
                });
            }
        }
        let defaults = manifest.variables.iter().filter_map(|(name, variable)| {
            let default = variable.default.as_ref()?;
            Some((name.clone(), Value::from_serialize(default)))
        });
        let defaults = defaults.collect();
        let info = TemplateInfo {
            name: name.clone(),
            description: manifest.description,
            default_locale: manifest.default_locale,
            locales: locales.keys().cloned().collect(),
            variables: manifest.variables,
        };
        for (locale, files) in locales {
            self.add_locale(&info, &locale, files)?;
        }
        self.templates.insert(name, Template { info, defaults });
        Ok(())
    }

    fn add_locale(
        &mut self,
        info: &TemplateInfo,
        locale: &str,
        files: LocaleFiles,
    ) -> Result<(), TemplateError> {
        let name = |part| part_name(&info.name, locale, part);
        self.add_part(info, name(Part::Subject), files.subject)?;
        self.add_part(info, name(Part::Text), files.text)?;
        match files.body {
            Body::Html(file) => self.add_part(info, name(Part::Html), file),
            Body::Mjml(file) => {
                // Before it is HTML: an error tells the line that was written.
                self.check_part(info, &file)?;
                let html = match mjml::to_html(&file.source) {
                    Ok(source) => TemplateFile { source, ..file },
                    Err(error) => {
                        return Err(TemplateError::Syntax {
                            file: file.path,
                            line: error.line,
                            reason: error.reason,
                        });
                    }
                };
                self.add_part(info, name(Part::Html), html)
            }
        }
    }

    fn add_part(
        &mut self,
        info: &TemplateInfo,
        name: String,
        file: TemplateFile,
    ) -> Result<(), TemplateError> {
        self.check_part(info, &file)?;
        let TemplateFile { path, source } = file;
        let added = self.environment.add_template_owned(name, source);
        added.map_err(|error| syntax_error(path, &error))
    }

    /// Parses a part, and looks whether all that it uses will be there.
    fn check_part(&self, info: &TemplateInfo, file: &TemplateFile) -> Result<(), TemplateError> {
        let parsed = self.environment.template_from_str(&file.source);
        let parsed = parsed.map_err(|error| syntax_error(file.path.clone(), &error))?;
        let mut used: Vec<_> = parsed.undeclared_variables(true).into_iter().collect();
        used.sort();
        for variable in used {
            let (root, attribute) = match variable.split_once('.') {
                Some((root, attribute)) => (root, Some(attribute)),
                None => (variable.as_str(), None),
            };
            let known = match root {
                "user" => matches!(attribute, None | Some("name")),
                _ => {
                    BUILT_IN.contains(&root)
                        || info.variables.contains_key(root)
                        || self.environment.globals().any(|(name, _)| name == root)
                }
            };
            if !known {
                return Err(TemplateError::UndeclaredVariable {
                    file: file.path.clone(),
                    variable,
                });
            }
        }
        Ok(())
    }
}

impl Template {
    fn context(&self, letter: &Letter<'_>, locale: &str) -> Result<Value, CheckError> {
        let mut context = self.defaults.clone();
        for (name, value) in object(letter.variables)? {
            context.insert(name.clone(), Value::from_serialize(value));
        }
        // Last, so that nothing that is given can stand in for them.
        let user = BTreeMap::from([("name", letter.user_name)]);
        let built_in: [(&str, Value); BUILT_IN.len()] = [
            ("title", letter.title.into()),
            ("body", letter.body.into()),
            ("severity", letter.severity.as_str().into()),
            ("category", letter.category.into()),
            ("link", letter.link.into()),
            ("data", Value::from_serialize(letter.data)),
            ("user", Value::from_serialize(user)),
            ("locale", locale.into()),
            ("unsubscribe_url", letter.unsubscribe_url.into()),
        ];
        for (name, value) in built_in {
            context.insert(name.to_owned(), value);
        }
        Ok(Value::from_serialize(context))
    }
}

impl TemplateInfo {
    /// The locale that is nearest to the wanted one: `de-AT`, then `de`, then the
    /// template's default.
    fn locale_for(&self, wanted: Option<&str>) -> &str {
        // Some systems write `de_AT`.
        let wanted = wanted.unwrap_or_default().replace('_', "-");
        let mut wanted = wanted.as_str();
        while !wanted.is_empty() {
            let mut locales = self.locales.iter();
            if let Some(found) = locales.find(|locale| locale.eq_ignore_ascii_case(wanted)) {
                return found;
            }
            wanted = wanted.rsplit_once('-').map_or("", |(rest, _)| rest);
        }
        &self.default_locale
    }
}

/// A part of a mail, each a template of its own.
#[derive(Debug, Clone, Copy)]
enum Part {
    Subject,
    Text,
    Html,
}

/// The name tells the environment whether to escape.
fn part_name(template: &str, locale: &str, part: Part) -> String {
    let ending = match part {
        Part::Subject => "subject.txt",
        Part::Text => "txt",
        Part::Html => "html",
    };
    format!("{template}/{locale}.{ending}")
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // A misspelt attribute is an error, not a gap in the mail.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|name| {
        if name.ends_with(".html") {
            AutoEscape::Html
        } else {
            AutoEscape::None
        }
    });
    // A line with nothing but a condition leaves no empty line in a text.
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment
}

fn syntax_error(file: PathBuf, error: &minijinja::Error) -> TemplateError {
    let reason = match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    };
    TemplateError::Syntax {
        file,
        line: error.line().unwrap_or(1),
        reason,
    }
}

/// What is in the object. None has nothing in it.
fn object(
    variables: Option<&serde_json::Value>,
) -> Result<impl Iterator<Item = (&String, &serde_json::Value)> + Clone, CheckError> {
    match variables {
        None | Some(serde_json::Value::Null) => Ok(None.into_iter().flatten()),
        Some(serde_json::Value::Object(object)) => Ok(Some(object).into_iter().flatten()),
        Some(_) => Err(CheckError::NotAnObject),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value as Json, json};
    use tempfile::TempDir;

    use super::*;
    use crate::error::ApiError;

    const MANIFEST: &str = r#"
        default_locale = "en"
        [variables]
        unit = { description = "The unit's name" }
        share = { default = 10 }
    "#;
    const MJML: &str = "<mjml><mj-body><mj-section><mj-column>\n\
        <mj-text>{{ unit }} {{ share }}</mj-text>\n\
        </mj-column></mj-section></mj-body></mjml>";

    /// A folder with the template `alert`: as it should be, but for these files.
    fn folder(changes: &[(&str, Option<&str>)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let alert = folder.path().join("alert");
        fs::create_dir(&alert).unwrap();
        fs::write(alert.join("template.toml"), MANIFEST).unwrap();
        for locale in ["en", "de", "pt-BR"] {
            let write =
                |ending, text: &str| fs::write(alert.join(format!("{locale}.{ending}")), text);
            write("subject.txt", &format!("{locale}: {{{{ title }}}}")).unwrap();
            write("txt", "{{ unit }} {{ share }}\n").unwrap();
            write("mjml", MJML).unwrap();
        }
        for (name, text) in changes {
            let file = alert.join(name);
            match text {
                Some(text) => fs::write(file, text).unwrap(),
                None => fs::remove_file(file).unwrap(),
            }
        }
        folder
    }

    fn load(changes: &[(&str, Option<&str>)]) -> Result<Templates, TemplateError> {
        Templates::load(Some(folder(changes).path()))
    }

    fn letter<'a>() -> Letter<'a> {
        Letter {
            template: None,
            locale: None,
            user_name: "Ada",
            title: "Less wind",
            body: "First line\nSecond line",
            severity: Severity::Warning,
            category: "alert",
            link: Some("https://example.com/units/1?a=1&b=2"),
            unsubscribe_url: "https://example.com/unsubscribe?token=abc",
            data: None,
            variables: None,
        }
    }

    #[test]
    fn what_is_wrong_with_a_template_is_found_when_it_is_loaded() {
        let check = |name, text, expected: &str| {
            let error = load(&[(name, text)]).unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
        };
        check(
            "en.txt",
            Some("a\n{% if title %}b"),
            "en.txt, line 2: unexpected end",
        );
        check("de.mjml", Some("<mjml>\n{{ title"), "de.mjml, line 2");
        check(
            "de.mjml",
            Some("<mjml><mj-body>\n\n<mj-x/></mj-body></mjml>"),
            "de.mjml, line 3",
        );
        check(
            "de.subject.txt",
            Some("{{ tilte }}"),
            "de.subject.txt uses `tilte`",
        );
        check(
            "de.txt",
            Some("{{ user.email }}"),
            "de.txt uses `user.email`",
        );
        check("en.txt", Some("{% include 'x' %}"), "en.txt, line 1");
        check("en.txt", None, "the template alert has no file en.txt");
        check("de.subject.txt", None, "has no file de.subject.txt");
        check("pt-BR.mjml", None, "has no file pt-BR.mjml");
        check("template.toml", None, "has no file template.toml");
        check(
            "template.toml",
            Some("\ndefault_locale = 1"),
            "template.toml, line 2",
        );
        check(
            "template.toml",
            Some("default_locale = 'fr'"),
            "has no file fr.subject.txt",
        );
        check(
            "template.toml",
            Some("default_locale = 'en'\nlocale = 'en'"),
            "line 2: unknown field",
        );
        check(
            "template.toml",
            Some("default_locale = 'en'"),
            "uses `share`",
        );
        let reserved = "default_locale = 'en'\n[variables]\ntitle = {}";
        check(
            "template.toml",
            Some(reserved),
            "cannot name a variable `title`",
        );
        check("en.html", Some("two bodies"), "en.mjml is no part");
        check("notes.md", Some("x"), "notes.md is no part");
        check("english.txt", Some("x"), "english.txt is no part");
    }

    #[test]
    fn a_folder_that_is_none_is_an_error() {
        let error = Templates::load(Some(Path::new("/nowhere/at/all"))).unwrap_err();
        assert!(matches!(error, TemplateError::Read { .. }), "{error}");
    }

    #[test]
    fn variables_are_checked() {
        let templates = load(&[]).unwrap();
        let check = |name, variables: Option<Json>| templates.check(name, variables.as_ref());
        assert_eq!(check("alert", Some(json!({ "unit": "A" }))), Ok(()));
        assert_eq!(
            check("alert", Some(json!({ "unit": "A", "share": 1 }))),
            Ok(())
        );
        assert_eq!(check("plain", None), Ok(()));
        assert_eq!(check("plain", Some(json!(null))), Ok(()));
        let unknown = CheckError::UnknownTemplate("alarm".to_owned());
        assert_eq!(check("alarm", None), Err(unknown));
        assert_eq!(
            check("alert", Some(json!(["unit"]))),
            Err(CheckError::NotAnObject)
        );
        let missing = CheckError::MissingVariable {
            template: "alert".to_owned(),
            variable: "unit".to_owned(),
        };
        assert_eq!(
            check("alert", Some(json!({ "share": 1 }))),
            Err(missing.clone())
        );
        assert_eq!(check("alert", None), Err(missing));
        let unknown = CheckError::UnknownVariable {
            template: "alert".to_owned(),
            variable: "units".to_owned(),
        };
        assert_eq!(
            check("alert", Some(json!({ "unit": "A", "units": 1 }))),
            Err(unknown)
        );
    }

    #[test]
    fn the_nearest_locale_is_taken() {
        let templates = load(&[]).unwrap();
        let variables = json!({ "unit": "A" });
        let check = |locale, expected| {
            let rendered = templates.render(&Letter {
                template: Some("alert"),
                locale,
                variables: Some(&variables),
                ..letter()
            });
            let rendered = rendered.unwrap();
            assert_eq!(rendered.locale, expected);
            assert_eq!(rendered.subject, format!("{expected}: Less wind"));
        };
        check(Some("de"), "de");
        check(Some("de-AT"), "de");
        check(Some("de_AT"), "de");
        check(Some("DE-Latn-AT"), "de");
        check(Some("pt-br"), "pt-BR");
        check(Some("pt"), "en");
        check(Some("fr"), "en");
        check(Some(""), "en");
        check(None, "en");
    }

    #[test]
    fn what_users_write_stays_text() {
        let templates = Templates::load(None).unwrap();
        let evil = "<script>alert(1)</script>\"'><mj-raw>{{ data }}{% if x %}";
        for locale in ["en", "de", "tr"] {
            let rendered = templates.render(&Letter {
                locale: Some(locale),
                user_name: evil,
                title: evil,
                body: evil,
                category: evil,
                link: Some("https://example.com/\"><script>"),
                ..letter()
            });
            let Rendered {
                subject,
                html,
                text,
                ..
            } = rendered.unwrap();
            assert!(
                !html.contains("<script>") && !html.contains("<mj-"),
                "{html}"
            );
            assert!(html.contains("{{ data }}{% if x %}"), "not rendered twice");
            assert!(
                subject.contains(evil) && text.contains(evil),
                "{subject}\n{text}"
            );
        }
    }

    #[test]
    fn a_subject_is_one_line() {
        let templates = Templates::load(None).unwrap();
        let rendered = templates.render(&Letter {
            title: "Wind\r\nBcc: eve@example.com\n\n",
            ..letter()
        });
        assert_eq!(rendered.unwrap().subject, "Wind Bcc: eve@example.com");
    }

    #[test]
    fn a_misspelt_attribute_is_an_error() {
        let templates = load(&[("en.txt", Some("{{ unit.nmae }} {{ share }}"))]).unwrap();
        let render = |unit: Json| {
            let variables = json!({ "unit": unit });
            templates.render(&Letter {
                template: Some("alert"),
                variables: Some(&variables),
                ..letter()
            })
        };
        assert!(matches!(
            render(json!({ "name": "A" })),
            Err(RenderError::Template(_))
        ));
        assert_eq!(render(json!({ "nmae": "A" })).unwrap().text, "A 10");
        let error = ApiError::from(render(json!({ "name": "A" })).unwrap_err());
        assert_eq!(
            async_graphql::Error::from(error).message,
            "the template does not fit what it is given: undefined value in alert/en.txt, line 1"
        );
    }

    #[test]
    fn the_plain_template_speaks_its_languages() {
        let templates = Templates::load(None).unwrap();
        for (locale, severity, button) in [
            ("en", "Critical", "Open"),
            ("de", "Kritisch", "Öffnen"),
            ("tr", "Kritik", "Aç"),
        ] {
            let letter = Letter {
                locale: Some(locale),
                severity: Severity::Critical,
                ..letter()
            };
            let Rendered {
                subject,
                html,
                text,
                ..
            } = templates.render(&letter).unwrap();
            assert_eq!(subject, format!("{severity}: Less wind"));
            assert!(text.contains("First line\nSecond line\n"), "{text}");
            assert!(
                text.contains("units/1?a=1&b=2\n") && text.contains("token=abc"),
                "{text}"
            );
            assert!(html.contains("First line<br />Second line"), "{html}");
            assert!(html.contains(severity) && html.contains(button), "{html}");
            let bare = templates
                .render(&Letter {
                    link: None,
                    user_name: "",
                    ..letter
                })
                .unwrap();
            assert!(
                !bare.html.contains(button) && !bare.text.contains(button),
                "{}",
                bare.html
            );
        }
    }

    #[test]
    fn a_folder_may_replace_the_plain_template() {
        let folder = folder(&[]);
        fs::rename(folder.path().join("alert"), folder.path().join("plain")).unwrap();
        fs::write(folder.path().join("plain/template.toml"), "default_locale = 'de'\n[variables]\nunit = { default = 'A' }\nshare = { default = 1.5 }").unwrap();
        fs::write(folder.path().join("README.md"), "what lies here").unwrap();
        let templates = Templates::load(Some(folder.path())).unwrap();
        let rendered = templates.render(&letter()).unwrap();
        assert_eq!(
            (rendered.text.as_str(), rendered.locale.as_str()),
            ("A 1.5", "de")
        );
        let [info] = &templates.list().collect::<Vec<_>>()[..] else {
            panic!("one template");
        };
        assert_eq!(
            (info.name.as_str(), &info.locales[..]),
            (
                "plain",
                &["de".to_owned(), "en".to_owned(), "pt-BR".to_owned()][..]
            )
        );
    }
}
