//! One owner at a time for an embedded database.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Held by whoever may migrate or replace an SQLite file: `serve`, `demo`,
/// `migrate` and `restore`. The system releases it when the process ends, however
/// it ends. Programs that read and write rows need none.
#[derive(Debug)]
pub(crate) struct Owner {
    _lock: File,
}

impl Owner {
    /// Owns the database at `path` for `command`. Fails naming the owner if
    /// there is one.
    pub(crate) fn take(path: &Path, command: &str) -> anyhow::Result<Self> {
        let lock_path = beside(path)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .with_context(|| format!("cannot open {}", lock_path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // It may be about to write who it is.
                if lock.read_to_string(&mut holder).is_err() || holder.is_empty() {
                    holder.push_str("another smartpulse");
                }
                bail!(
                    "{} is in use by {}: stop it first, or name another database",
                    path.display(),
                    holder.trim()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", lock_path.display()));
            }
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| {
                let holder = format!("smartpulse {command} (process {})\n", std::process::id());
                lock.write_all(holder.as_bytes())
            })
            .with_context(|| format!("cannot write {}", lock_path.display()))?;
        Ok(Self { _lock: lock })
    }
}

/// The lock's file, the same however the database's path is written.
fn beside(path: &Path) -> anyhow::Result<PathBuf> {
    // A link to a file that is still to be made has no canonical path.
    if let (Err(_), Ok(target)) = (fs::canonicalize(path), fs::read_link(path)) {
        let folder = path.parent().unwrap_or(Path::new("."));
        return beside(&folder.join(target));
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    // A database that does not exist yet has no canonical path, but its folder does.
    let path = match fs::canonicalize(path) {
        Ok(path) => path,
        Err(_) => fs::canonicalize(folder)?.join(path.file_name().unwrap_or_default()),
    };
    let mut name = path.into_os_string();
    name.push(".lock");
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_has_one_owner_whatever_its_path_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        fs::write(&path, "").unwrap();
        let owner = Owner::take(&path, "serve").unwrap();
        let detour = folder.path().join(".").join("a.db");
        let refused = Owner::take(&detour, "restore").unwrap_err().to_string();
        let holder = format!("smartpulse serve (process {})", std::process::id());
        assert!(refused.contains(&holder), "{refused}");
        let other = folder.path().join("b.db");
        Owner::take(&other, "serve").unwrap();
        drop(owner);
        Owner::take(&detour, "restore").unwrap();
    }
}
