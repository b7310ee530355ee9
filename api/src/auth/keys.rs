//! API keys: found in memory for the most part, and in the database if not.
//!
//! A key that is revoked here is refused at once; one that is revoked by another
//! replica, or by plain SQL, once what is remembered of it is too old.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use domain::access::{self, AccessError, ApiKey, Hash, NewApiKey, Secret};
use domain::database::{Database, Fault};
use moka::sync::Cache;
use parking_lot::Mutex;
use sea_orm::DbErr;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Refusal;
use crate::error::{ApiError, ErrorCode};
use crate::viewer::Viewer;

/// How long it is remembered what the database said of a secret.
const REMEMBERED: Duration = Duration::from_secs(10);
/// How long a key that the database confirmed lets its bearer in while the
/// database cannot be asked: what memory has is then still answered.
const TRUSTED: Duration = Duration::from_secs(300);
/// After a look-up that failed, trusted keys are not looked up for so long.
const AWAY: Duration = Duration::from_secs(5);
/// Of so many secrets, those that are none included.
const MOST_REMEMBERED: u64 = 10_000;
/// So many secrets are looked up at once: whoever tries many must not take all
/// connections to the database.
const LOOKUPS: usize = 4;
/// How long a caller waits to be looked up, others before it included.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same for the bearer of a trusted key.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);
/// How often uses are written down, and keys in use are looked at.
const INTERVAL: Duration = Duration::from_secs(60);

/// The keys of this database.
#[derive(Clone)]
pub(crate) struct Keys {
    inner: Arc<Inner>,
}

struct Inner {
    db: Database,
    /// `None` for a secret that no key has.
    remembered: Cache<Hash, Option<Known>>,
    /// Keys that the database has confirmed lately.
    trusted: Cache<Hash, Known>,
    /// When a look-up of a trusted key last failed.
    failed_at: Mutex<Option<Instant>>,
    lookups: Semaphore,
    /// Counts what was revoked here, so that a lookup under way notices.
    revocations: AtomicU64,
    in_use: Mutex<HashMap<i64, Arc<KeyInUse>>>,
}

/// A key that is not revoked, as far as is known.
#[derive(Clone)]
struct Known {
    key: Arc<ApiKey>,
    in_use: Arc<KeyInUse>,
}

/// What those who came in by one key have in common.
#[derive(Debug)]
pub(crate) struct KeyInUse {
    hash: Hash,
    revoked: CancellationToken,
    /// When it was last used, in seconds since 1970; 0 for not yet.
    used_at: AtomicI64,
    /// The last use that is written down.
    noted_at: AtomicI64,
}

impl KeyInUse {
    /// Completes when the key is revoked.
    pub(crate) async fn revoked(&self) {
        self.revoked.cancelled().await;
    }

    /// The use that is to be written down, if there is one.
    fn to_note(&self) -> Option<i64> {
        let used_at = self.used_at.load(Ordering::Relaxed);
        (used_at != self.noted_at.load(Ordering::Relaxed)).then_some(used_at)
    }
}

impl Keys {
    pub(super) fn new(db: Database) -> Self {
        Self {
            inner: Arc::new(Inner {
                db,
                remembered: Cache::builder()
                    .max_capacity(MOST_REMEMBERED)
                    .time_to_live(REMEMBERED)
                    .build(),
                trusted: Cache::builder()
                    .max_capacity(MOST_REMEMBERED)
                    .time_to_live(TRUSTED)
                    .build(),
                failed_at: Mutex::default(),
                lookups: Semaphore::new(LOOKUPS),
                revocations: AtomicU64::new(0),
                in_use: Mutex::default(),
            }),
        }
    }

    /// Whom the secret of a key stands for.
    pub(super) async fn viewer(&self, secret: &str) -> Result<Viewer, Refusal> {
        let unknown = || Refusal::invalid("there is no such API key, or it was revoked");
        let secret = Secret::read(secret).ok_or_else(unknown)?;
        let (known, confirmed) = self
            .ask(secret.hash())
            .await
            .map_err(Refusal::Unavailable)?;
        let Known { key, in_use } = known.ok_or_else(unknown)?;
        let now = OffsetDateTime::now_utc();
        let expires_at = match key.expires_at {
            Some(at) => match Duration::try_from(at - now) {
                Ok(left) if !left.is_zero() => Instant::now().checked_add(left),
                _ => return Err(Refusal::invalid("the API key has expired")),
            },
            None => None,
        };
        in_use
            .used_at
            .store(now.unix_timestamp(), Ordering::Relaxed);
        Ok(Viewer {
            user: key.user.clone(),
            roles: key.roles,
            companies: key.companies.as_slice().into(),
            expires_at,
            api_key: Some(in_use),
            confirmed,
        })
    }

    /// What the database says of a secret, or has said lately if it cannot be asked;
    /// and whether it was asked.
    async fn ask(&self, hash: Hash) -> Result<(Option<Known>, bool), ApiError> {
        let trusted = self.inner.trusted.get(&hash);
        let patience = match &trusted {
            Some(_) if self.is_away() && !self.inner.remembered.contains_key(&hash) => {
                return Ok((trusted, false));
            }
            Some(_) => SHORT_PATIENCE,
            None => PATIENCE,
        };
        let error = match timeout(patience, self.find(hash)).await {
            Ok(Ok(known)) => return Ok((known, true)),
            Ok(Err(error)) if !Fault::of(&error).passes() => return Err(error.into()),
            Ok(Err(error)) => error.into(),
            Err(_) => ApiError::new(
                ErrorCode::Unavailable,
                "keys cannot be looked up: try again",
            ),
        };
        let Some(known) = trusted else {
            return Err(error);
        };
        *self.inner.failed_at.lock() = Some(Instant::now());
        Ok((Some(known), false))
    }

    fn is_away(&self) -> bool {
        let failed_at = *self.inner.failed_at.lock();
        failed_at.is_some_and(|at| at.elapsed() < AWAY)
    }

    async fn find(&self, hash: Hash) -> Result<Option<Known>, DbErr> {
        let inner = &self.inner;
        if let Some(found) = inner.remembered.get(&hash) {
            return Ok(found);
        }
        // Never closed: there is always a permit to come.
        let _permit = inner.lookups.acquire().await;
        loop {
            // Somebody else may have looked it up while we waited.
            if let Some(found) = inner.remembered.get(&hash) {
                return Ok(found);
            }
            let revocations = inner.revocations.load(Ordering::SeqCst);
            let key = access::by_hash(inner.db.reader(), &hash).await?;
            let known = key
                .filter(|key| key.revoked_at.is_none())
                .map(|key| self.known(key));
            inner.remembered.insert(hash, known.clone());
            match &known {
                Some(known) => inner.trusted.insert(hash, known.clone()),
                None => inner.trusted.invalidate(&hash),
            }
            // A revocation from here on forgets what was just remembered.
            if inner.revocations.load(Ordering::SeqCst) == revocations {
                return Ok(known);
            }
            inner.remembered.invalidate(&hash);
            inner.trusted.invalidate(&hash);
        }
    }

    fn known(&self, key: ApiKey) -> Known {
        let mut in_use = self.inner.in_use.lock();
        let in_use = in_use.entry(key.id).or_insert_with(|| {
            Arc::new(KeyInUse {
                hash: key.hash,
                revoked: CancellationToken::new(),
                used_at: AtomicI64::new(0),
                noted_at: AtomicI64::new(0),
            })
        });
        Known {
            in_use: Arc::clone(in_use),
            key: Arc::new(key),
        }
    }

    /// Makes a key; its secret is not to be had again.
    pub(crate) async fn create(&self, new: &NewApiKey) -> Result<(ApiKey, Secret), AccessError> {
        create(&self.inner.db, new).await
    }

    /// Takes a key back: nobody comes in by it from here on, and who is in has
    /// to go.
    pub(crate) async fn revoke(&self, id: i64) -> Result<ApiKey, AccessError> {
        let key = access::revoke(&self.inner.db, id, OffsetDateTime::now_utc()).await?;
        self.forget(id, &key.hash);
        Ok(key)
    }

    fn forget(&self, id: i64, hash: &Hash) {
        self.inner.revocations.fetch_add(1, Ordering::SeqCst);
        self.inner.remembered.invalidate(hash);
        self.inner.trusted.invalidate(hash);
        let in_use = self.inner.in_use.lock().remove(&id);
        if let Some(in_use) = in_use {
            in_use.revoked.cancel();
        }
    }

    /// Writes down what was used, and sends away whose key was revoked
    /// elsewhere, again and again.
    pub(crate) async fn watch(self, stop: CancellationToken) -> Result<(), DbErr> {
        while !stop.is_cancelled() {
            self.step().await?;
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(INTERVAL) => {}
            }
        }
        self.note_uses().await
    }

    async fn step(&self) -> Result<(), DbErr> {
        self.note_uses().await?;
        let open: Vec<(i64, Hash)> = {
            let mut in_use = self.inner.in_use.lock();
            // Who gets one does so under the lock: one that only we have is
            // nobody's.
            in_use.retain(|_, key| Arc::strong_count(key) > 1 || key.to_note().is_some());
            in_use.iter().map(|(id, key)| (*id, key.hash)).collect()
        };
        if open.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = open.iter().map(|(id, _)| *id).collect();
        let left = access::unrevoked(self.inner.db.reader(), &ids).await?;
        for (id, hash) in open.iter().filter(|(id, _)| !left.contains(id)) {
            self.forget(*id, hash);
        }
        Ok(())
    }

    async fn note_uses(&self) -> Result<(), DbErr> {
        let used: Vec<(i64, Arc<KeyInUse>)> = {
            let in_use = self.inner.in_use.lock();
            let used = in_use.iter().filter(|(_, key)| key.to_note().is_some());
            used.map(|(id, key)| (*id, Arc::clone(key))).collect()
        };
        for (id, key) in used {
            let Some(used_at) = key.to_note() else {
                continue;
            };
            let at = OffsetDateTime::from_unix_timestamp(used_at);
            let at = at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
            access::note_use(&self.inner.db, id, at).await?;
            key.noted_at.store(used_at, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Makes a key with a secret that nobody has seen.
pub(crate) async fn create(
    db: &Database,
    new: &NewApiKey,
) -> Result<(ApiKey, Secret), AccessError> {
    let secret = Secret::of_random(rand::random());
    let key = access::create(db, new, &secret, OffsetDateTime::now_utc()).await?;
    Ok((key, secret))
}

#[cfg(test)]
mod tests {
    use domain::access::{NewApiKey, Role};
    use migration::testing::TestDatabase;

    use super::*;
    use crate::config::DatabaseArgs;
    use crate::database;

    /// Keys of a database that is away, what was remembered of them too old.
    async fn away(confirmed: bool) -> (Keys, Secret, i64) {
        let file = TestDatabase::sqlite().await;
        let path = file.file().unwrap();
        let args = DatabaseArgs::embedded(&path.display().to_string());
        let db = database::open(&args).await.unwrap();
        let keys = Keys::new(db.clone());
        let new = NewApiKey {
            user: "feed".to_owned(),
            name: "Forecasts".to_owned(),
            roles: [Role::Provider].into_iter().collect(),
            companies: Vec::new(),
            expires_at: None,
        };
        let (key, secret) = keys.create(&new).await.unwrap();
        if confirmed {
            keys.viewer(secret.reveal()).await.unwrap();
        }
        db.close().await.unwrap();
        keys.inner.remembered.invalidate_all();
        (keys, secret, key.id)
    }

    #[tokio::test]
    async fn a_key_that_was_valid_lately_lets_in_while_the_database_is_away() {
        let (keys, secret, id) = away(true).await;
        for _ in 0..2 {
            let viewer = keys.viewer(secret.reveal()).await.unwrap();
            assert_eq!((viewer.user.as_str(), viewer.confirmed), ("feed", false));
        }
        // Not one that was revoked here, nor one that nobody has confirmed.
        keys.forget(id, &secret.hash());
        let refused = keys.viewer(secret.reveal()).await.unwrap_err();
        assert!(matches!(refused, Refusal::Unavailable(_)));
        let (keys, secret, _) = away(false).await;
        let refused = keys.viewer(secret.reveal()).await.unwrap_err();
        assert!(matches!(refused, Refusal::Unavailable(_)));
    }
}
