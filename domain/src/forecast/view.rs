//! Reading forecasts: from memory where it is valid, else from the database.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use sea_orm::DbErr;
use time::OffsetDateTime;

use super::{
    Curve, Day, DayCurve, DayHistory, DeliveryRange, ForecastError, Resolution, Run, SeriesKey,
    series, store,
};
use crate::cache::{Cache, CacheMetrics, CacheSettings, Clock, Load, Loaded, Tag};
use crate::change::{Change, Operation, Position, Subject};
use crate::database::Database;
use crate::provider::{self, Provider, ProviderKey};
use crate::unit::{self, Unit, UnitKey};

/// One day of one series: what is stored, kept in memory, and invalidated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DayKey {
    pub series_id: i64,
    pub(super) resolution: Resolution,
    pub day: Day,
}

impl DayKey {
    /// Shared by everything made from this day of this series.
    fn tag(series_id: i64, day: Day) -> Tag {
        Tag::of("forecast", &(series_id, day))
    }
}

/// Which versions count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum View {
    /// The latest of each delivery period.
    #[default]
    Latest,
    /// What was issued by then.
    KnownAt(OffsetDateTime),
    /// What one run gave.
    Run(i64),
}

/// How much memory the caches may take.
#[derive(Debug, Clone, Copy)]
pub struct ForecastsSettings {
    /// Of latest day curves.
    pub latest: CacheSettings,
    /// Of day histories, from which every other view is made.
    pub history: CacheSettings,
    /// Of units, providers and series, each.
    pub reference: CacheSettings,
}

/// Forecasts and what they refer to, read through memory.
#[derive(Clone)]
pub struct Forecasts {
    db: Database,
    clock: Arc<Clock>,
    units: Cache<Units>,
    providers: Cache<Providers>,
    series: Cache<SeriesIds>,
    runs: Cache<Runs>,
    latest: Cache<Latest>,
    history: Cache<History>,
    metrics: CacheMetrics,
}

/// Days that one read loads at most.
const LOADED_TOGETHER: usize = 2000;

impl Forecasts {
    pub fn new(db: &Database, clock: Arc<Clock>, settings: ForecastsSettings) -> Self {
        let metrics = CacheMetrics::default();
        let reference = settings.reference;
        let clock_of = || Arc::clone(&clock);
        Self {
            units: Cache::new(Units(db.clone()), clock_of(), reference, &metrics),
            providers: Cache::new(Providers(db.clone()), clock_of(), reference, &metrics),
            series: Cache::new(SeriesIds(db.clone()), clock_of(), reference, &metrics),
            runs: Cache::new(Runs(db.clone()), clock_of(), reference, &metrics),
            latest: Cache::new(Latest(db.clone()), clock_of(), settings.latest, &metrics),
            history: Cache::new(History(db.clone()), clock_of(), settings.history, &metrics),
            db: db.clone(),
            clock,
            metrics,
        }
    }

    pub fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// What the caches count.
    pub fn metrics(&self) -> &CacheMetrics {
        &self.metrics
    }

    /// Bytes and entries of each cache, by its name.
    pub fn sizes(&self) -> [(&'static str, (u64, u64)); 6] {
        [
            (Units::NAME, self.units.size()),
            (Providers::NAME, self.providers.size()),
            (SeriesIds::NAME, self.series.size()),
            (Runs::NAME, self.runs.size()),
            (Latest::NAME, self.latest.size()),
            (History::NAME, self.history.size()),
        ]
    }

    /// The unit, if there is one.
    pub async fn unit(&self, key: UnitKey) -> Result<Option<Arc<Unit>>, ForecastError> {
        Ok(self.units.get(key).await?.value)
    }

    /// The provider, if there is one.
    pub async fn provider(
        &self,
        key: &ProviderKey,
    ) -> Result<Option<Arc<Provider>>, ForecastError> {
        Ok(self.providers.get(key.clone()).await?.value)
    }

    /// Units in the order of their keys' places; one read for those not in memory.
    pub async fn units(&self, keys: &[UnitKey]) -> Result<Vec<Option<Arc<Unit>>>, ForecastError> {
        Ok(self.units.get_many(keys).await?.0)
    }

    /// The run, if there is one.
    pub async fn run(&self, id: i64) -> Result<Option<Run>, ForecastError> {
        Ok(self.runs.get(id).await?.value)
    }

    /// A range of a series, and the position it includes.
    pub async fn curve(
        &self,
        series: &SeriesKey,
        range: DeliveryRange,
        view: View,
    ) -> Result<Curve, ForecastError> {
        let known = match self.series.peek(series) {
            Some(known) => known,
            None => self.series.get(series.clone()).await?,
        };
        let Some(series_id) = known.value else {
            self.require(series).await?;
            return Ok(Curve::new(range, Vec::new(), known.position));
        };
        let resolution = range.resolution();
        let keys = range
            .days()
            .map(move |day| DayKey::new(series_id, resolution, day));
        match view {
            View::Latest => {
                // The common case needs no list of keys, and no task.
                if let Some((days, position)) = self.remembered(&keys) {
                    return Ok(Curve::new(range, days, position));
                }
                let keys: Vec<_> = keys.collect();
                let (days, position) = self.latest.get_many(&keys).await?;
                Ok(Curve::new(range, days, position))
            }
            View::KnownAt(at) => {
                self.overlaid(range, keys.collect(), |source| source.issued_at <= at)
                    .await
            }
            View::Run(run_id) => {
                let curve = self
                    .overlaid(range, keys.collect(), |source| source.run_id == run_id)
                    .await?;
                if curve.points().next().is_none() && self.run(run_id).await?.is_none() {
                    return Err(ForecastError::UnknownRun(run_id));
                }
                Ok(curve)
            }
        }
    }

    /// Loads what several curves are made of in a few reads, so that each of them
    /// then finds it in memory. What fails here fails there, and is told there.
    pub async fn load_together(&self, wanted: &[(SeriesKey, DeliveryRange, View)]) {
        let series: Vec<SeriesKey> = wanted.iter().map(|(series, ..)| series.clone()).collect();
        let units: Vec<UnitKey> = series.iter().map(|series| series.unit).collect();
        let providers: Vec<ProviderKey> = (series.iter())
            .map(|series| series.provider.clone())
            .collect();
        let (ids, ..) = tokio::join!(
            self.series.get_many(&series),
            self.units.get_many(&units),
            self.providers.get_many(&providers),
        );
        let Ok((ids, _)) = ids else {
            return;
        };
        let (mut latest, mut history) = (Vec::new(), Vec::new());
        for ((_, range, view), id) in wanted.iter().zip(ids) {
            let Some(id) = id else { continue };
            let resolution = range.resolution();
            let days = range.days().map(|day| DayKey::new(id, resolution, day));
            match view {
                View::Latest => latest.extend(days),
                View::KnownAt(_) | View::Run(_) => history.extend(days),
            }
        }
        for keys in latest.chunks(LOADED_TOGETHER) {
            drop(self.latest.get_many(keys).await);
        }
        for keys in history.chunks(LOADED_TOGETHER) {
            drop(self.history.get_many(keys).await);
        }
    }

    async fn overlaid(
        &self,
        range: DeliveryRange,
        keys: Vec<DayKey>,
        admits: impl Fn(&super::Source) -> bool,
    ) -> Result<Curve, ForecastError> {
        let (histories, position) = self.history.get_many(&keys).await?;
        let days = keys
            .iter()
            .zip(histories)
            .map(|(key, history)| {
                Arc::new(DayCurve::overlay(
                    range.resolution(),
                    key.day,
                    &history.versions,
                    |source, _| admits(source),
                ))
            })
            .collect();
        Ok(Curve::new(range, days, position))
    }

    /// The latest curves of some days if all are in memory and valid, with the
    /// position that all include.
    fn remembered(
        &self,
        keys: &(impl Iterator<Item = DayKey> + Clone),
    ) -> Option<(Vec<Arc<DayCurve>>, Position)> {
        let mut days = Vec::with_capacity(keys.size_hint().0);
        let mut oldest: Option<Position> = None;
        for key in keys.clone() {
            let Loaded { value, position } = self.latest.peek(&key)?;
            days.push(value);
            oldest = match oldest {
                // Another epoch has begun meanwhile.
                Some(oldest) if oldest.epoch != position.epoch => return None,
                Some(oldest) if oldest.number <= position.number => Some(oldest),
                _ => Some(position),
            };
        }
        let position = oldest?;
        // Several days are of several ages: none may have changed while they
        // were put together.
        let settled = days.len() == 1
            || (keys.clone()).all(|key| self.clock.admits(Latest::tag(&key), position));
        settled.then_some((days, position))
    }

    /// An error unless both the unit and the provider of a series exist.
    pub async fn require(&self, series: &SeriesKey) -> Result<(), ForecastError> {
        if self.unit(series.unit).await?.is_none() {
            return Err(ForecastError::UnknownUnit {
                key: series.unit,
                path: None,
            });
        }
        if self.provider(&series.provider).await?.is_none() {
            return Err(ForecastError::UnknownProvider {
                key: series.provider.clone(),
                path: None,
            });
        }
        Ok(())
    }

    /// Raises the tags of a change. The order of calls is the clock's.
    pub fn invalidate(&self, change: &Change) {
        let number = change.position.number;
        match &change.subject {
            Subject::Everything => self.clock.invalidate_all(number),
            // Nothing of them is kept.
            Subject::Notification(_) | Subject::Other(_) => {}
            Subject::Unit(key) => {
                self.clock.invalidate(Units::tag(key), number);
            }
            Subject::Provider(key) => {
                self.clock.invalidate(Providers::tag(key), number);
            }
            Subject::Forecast(forecast) => {
                debug_assert_ne!(change.operation, Operation::Resync);
                // It may be the first: that there was no such series, or run, is out of
                // date.
                self.clock
                    .invalidate(SeriesIds::tag(&forecast.series), number);
                self.clock.invalidate(Runs::tag(&forecast.run_id), number);
                let first = Day::of(forecast.from.unix_timestamp());
                let last = Day::of(forecast.to.unix_timestamp() - 1);
                for day in first.0..=last.0 {
                    self.clock
                        .invalidate(DayKey::tag(forecast.series_id, Day(day)), number);
                }
            }
        }
    }

    /// Loads the days around `now` of every series, so that the first screens
    /// after a start find them in memory. Returns how many day curves it loaded.
    pub async fn warm_up(&self, now: OffsetDateTime) -> Result<usize, ForecastError> {
        let today = Day::of(now.unix_timestamp());
        let keys: Vec<DayKey> = series::written_between(self.db.reader(), today, Day(today.0 + 2))
            .await?
            .into_iter()
            .map(|(series_id, resolution, day)| DayKey::new(series_id, resolution, day))
            .collect();
        for chunk in keys.chunks(256) {
            self.latest.get_many(chunk).await?;
        }
        Ok(keys.len())
    }
}

struct Units(Database);

impl Load for Units {
    type Key = UnitKey;
    type Value = Option<Arc<Unit>>;

    const NAME: &'static str = "unit";

    fn load(
        &self,
        keys: Vec<UnitKey>,
    ) -> impl Future<Output = Result<Vec<Self::Value>, DbErr>> + Send {
        let db = self.0.clone();
        async move {
            let found = unit::by_keys(db.reader(), &keys).await?;
            let found: HashMap<UnitKey, Arc<Unit>> = found
                .into_iter()
                .map(|unit| (unit.key, Arc::new(unit)))
                .collect();
            Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
        }
    }

    fn tag(key: &UnitKey) -> Tag {
        Tag::of("unit", key)
    }

    fn weight(_: &UnitKey, value: &Self::Value) -> u32 {
        let own = value.as_ref().map_or(0, |unit| {
            size_of::<Unit>() + unit.name.len() + size_of_val(&*unit.capacity)
        });
        bytes(size_of::<UnitKey>() + own)
    }
}

struct Providers(Database);

impl Load for Providers {
    type Key = ProviderKey;
    type Value = Option<Arc<Provider>>;

    const NAME: &'static str = "provider";

    fn load(
        &self,
        keys: Vec<ProviderKey>,
    ) -> impl Future<Output = Result<Vec<Self::Value>, DbErr>> + Send {
        let db = self.0.clone();
        async move {
            let found = provider::by_keys(db.reader(), &keys).await?;
            let found: HashMap<ProviderKey, Arc<Provider>> = found
                .into_iter()
                .map(|provider| (provider.key.clone(), Arc::new(provider)))
                .collect();
            Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
        }
    }

    fn tag(key: &ProviderKey) -> Tag {
        Tag::of("provider", key)
    }

    fn weight(key: &ProviderKey, value: &Self::Value) -> u32 {
        let own = value
            .as_ref()
            .map_or(0, |provider| size_of::<Provider>() + provider.name.len());
        bytes(key.as_str().len() + own)
    }
}

struct SeriesIds(Database);

impl Load for SeriesIds {
    type Key = SeriesKey;
    type Value = Option<i64>;

    const NAME: &'static str = "series";

    fn load(
        &self,
        keys: Vec<SeriesKey>,
    ) -> impl Future<Output = Result<Vec<Self::Value>, DbErr>> + Send {
        let db = self.0.clone();
        async move {
            let found = series::find(db.reader(), &keys).await?;
            Ok(keys
                .iter()
                .map(|key| found.get(key).map(|series| series.id))
                .collect())
        }
    }

    fn tag(key: &SeriesKey) -> Tag {
        Tag::of("series", key)
    }

    fn weight(key: &SeriesKey, _: &Self::Value) -> u32 {
        bytes(size_of::<SeriesKey>() + key.provider.as_str().len() + size_of::<i64>())
    }

    fn is_final(value: &Self::Value) -> bool {
        value.is_some()
    }
}

struct Runs(Database);

impl Load for Runs {
    type Key = i64;
    type Value = Option<Run>;

    const NAME: &'static str = "run";

    fn load(&self, keys: Vec<i64>) -> impl Future<Output = Result<Vec<Self::Value>, DbErr>> + Send {
        let db = self.0.clone();
        async move {
            let found = store::runs(db.reader(), &keys).await?;
            Ok(keys.iter().map(|key| found.get(key).copied()).collect())
        }
    }

    fn tag(key: &i64) -> Tag {
        Tag::of("run", key)
    }

    fn weight(_: &i64, _: &Self::Value) -> u32 {
        bytes(size_of::<i64>() + size_of::<Self::Value>())
    }

    fn is_final(value: &Self::Value) -> bool {
        value.is_some()
    }
}

struct Latest(Database);

impl Load for Latest {
    type Key = DayKey;
    type Value = Arc<DayCurve>;

    const NAME: &'static str = "latest";

    fn load(
        &self,
        keys: Vec<DayKey>,
    ) -> impl Future<Output = Result<Vec<Self::Value>, DbErr>> + Send {
        let db = self.0.clone();
        async move {
            let curves = store::latest(db.reader(), &keys).await?;
            Ok(curves.into_iter().map(Arc::new).collect())
        }
    }

    fn tag(key: &DayKey) -> Tag {
        DayKey::tag(key.series_id, key.day)
    }

    fn weight(_: &DayKey, value: &Self::Value) -> u32 {
        bytes(size_of::<DayKey>() + value.weight())
    }
}

struct History(Database);

impl Load for History {
    type Key = DayKey;
    type Value = Arc<DayHistory>;

    const NAME: &'static str = "history";

    fn load(
        &self,
        keys: Vec<DayKey>,
    ) -> impl Future<Output = Result<Vec<Self::Value>, DbErr>> + Send {
        let db = self.0.clone();
        async move {
            let histories = store::history(db.reader(), &keys).await?;
            Ok(histories.into_iter().map(Arc::new).collect())
        }
    }

    fn tag(key: &DayKey) -> Tag {
        DayKey::tag(key.series_id, key.day)
    }

    fn weight(_: &DayKey, value: &Self::Value) -> u32 {
        bytes(size_of::<DayKey>() + value.weight())
    }
}

fn bytes(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
