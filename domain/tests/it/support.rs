//! A database of each kind, and the words that the tests are written in.

use std::sync::Arc;
use std::time::Duration;

use domain::Patch;
use domain::cache::{CacheSettings, Clock};
use domain::change::{self, Change, Subject};
use domain::database::{Database, DatabaseSettings};
use domain::forecast::{
    self, Curve, DeliveryRange, ForecastError, Forecasts, ForecastsSettings, NewRun, Resolution,
    RunValues, SaveRequest, Saved, SeriesKey, View,
};
use domain::provider::{self, ProviderUpsert};
use domain::unit::{self, UnitKey, UnitUpsert};
use migration::testing::TestDatabase;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement};
use time::OffsetDateTime;
use time::macros::datetime;

/// When the tests take place.
pub(crate) const NOW: OffsetDateTime = datetime!(2024-06-15 09:00 UTC);

/// Makes of each `async fn name(db: TestDb)` the tests `name::sqlite` and
/// `name::postgres`. One that is left out is never used, which the compiler says.
macro_rules! on_both_databases {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use crate::support::TestDb;

            #[tokio::test]
            async fn sqlite() {
                super::$name(TestDb::sqlite().await).await;
            }

            #[tokio::test]
            async fn postgres() {
                super::$name(TestDb::postgres().await).await;
            }
        }
    )*};
}
pub(crate) use on_both_databases;

/// A migrated database with the units and providers of [`TestDb::seed`], and
/// a replica's view of it.
pub(crate) struct TestDb {
    pub(crate) db: Database,
    pub(crate) forecasts: Forecasts,
    // Dropped last: it takes the database away.
    _place: TestDatabase,
}

impl TestDb {
    pub(crate) async fn sqlite() -> Self {
        Self::at(TestDatabase::sqlite().await).await
    }

    pub(crate) async fn postgres() -> Self {
        Self::at(TestDatabase::postgres().await).await
    }

    async fn at(place: TestDatabase) -> Self {
        let db = Database::connect(&DatabaseSettings {
            url: place.url().to_owned(),
            max_connections: 4,
            // Ample: a machine that is busy with other things is no failure.
            acquire_timeout: Duration::from_secs(120),
            statement_timeout: Duration::from_secs(20),
            create_if_missing: false,
        })
        .await
        .unwrap();
        let head = change::read_head(db.reader()).await.unwrap();
        let cache = CacheSettings {
            budget_bytes: 16 << 20,
            time_to_live: Duration::from_secs(3600),
        };
        let forecasts = Forecasts::new(
            &db,
            Arc::new(Clock::new(head)),
            ForecastsSettings {
                latest: cache,
                history: cache,
                reference: cache,
            },
        );
        let db = Self {
            db,
            forecasts,
            _place: place,
        };
        db.seed().await;
        db
    }

    /// `plant:1`, `plant:2`, `provider-a` and `provider-b`.
    async fn seed(&self) {
        let units = [plant(1), plant(2)].map(unit_upsert);
        unit::upsert(&self.db, &units).await.unwrap();
        let providers = ["provider-a", "provider-b"].map(|key| ProviderUpsert {
            key: key.parse().unwrap(),
            name: None,
        });
        provider::upsert(&self.db, &providers).await.unwrap();
        self.tail().await;
    }

    /// Another program's connections to the same database.
    pub(crate) async fn connect_again(&self) -> sea_orm::DatabaseConnection {
        let mut options = sea_orm::ConnectOptions::new(self._place.url());
        options.max_connections(1).sqlx_logging(false);
        sea_orm::Database::connect(options).await.unwrap()
    }

    pub(crate) fn is_postgres(&self) -> bool {
        self.db.backend() == DbBackend::Postgres
    }

    /// Numbers what is committed and applies it to memory, as a replica's tail
    /// does; returns the changes.
    pub(crate) async fn tail(&self) -> Vec<Change> {
        if self.is_postgres() {
            self.sql("SELECT * FROM change_log_tick('wait')").await;
        } else {
            let txn = self.db.begin().await.unwrap();
            change::number_pending(&txn).await.unwrap();
            txn.commit().await.unwrap();
        }
        let clock = self.forecasts.clock();
        let mut all = Vec::new();
        loop {
            let applied = clock.applied().number;
            let page = change::read_after(self.db.reader(), applied, change::PAGE)
                .await
                .unwrap();
            clock.observe(page.head.number);
            if page.changes.is_empty() {
                assert_eq!(page.head.number, applied, "the log has a gap");
                return all;
            }
            for (change, _) in page.changes {
                assert_eq!(
                    change.position.number,
                    clock.applied().number + 1,
                    "the log has a gap"
                );
                self.forecasts.invalidate(&change);
                clock.advance(change.position.number);
                all.push(change);
            }
        }
    }

    /// Saves as `viewer`, now; what changed is for [`Self::tail`] to apply.
    pub(crate) async fn try_save(&self, runs: Vec<NewRun>) -> Result<Saved, ForecastError> {
        let request = SaveRequest {
            runs,
            idempotency_key: None,
        };
        forecast::save(&self.db, "viewer", &request, NOW).await
    }

    /// Saves one run and applies its changes; returns its id.
    pub(crate) async fn save(&self, run: NewRun) -> i64 {
        let saved = self.try_save(vec![run]).await.unwrap();
        self.tail().await;
        saved.run_ids[0]
    }

    /// A range of [`series`], by the resolution `PT1H`.
    pub(crate) async fn curve(
        &self,
        from: OffsetDateTime,
        to: OffsetDateTime,
        view: View,
    ) -> Curve {
        self.curve_of(&series(), from, to, view).await.unwrap()
    }

    pub(crate) async fn curve_of(
        &self,
        series: &SeriesKey,
        from: OffsetDateTime,
        to: OffsetDateTime,
        view: View,
    ) -> Result<Curve, ForecastError> {
        let range = DeliveryRange::covering(series.resolution, from, to, 100_000).unwrap();
        self.forecasts.curve(series, range, view).await
    }

    /// The values of hours 0 to 5 of [`DAY`], so that a row of a table is a test.
    pub(crate) async fn hours(&self, view: View) -> [Option<f64>; 6] {
        let curve = self.curve(DAY, DAY + HOUR * 6, view).await;
        let values: Vec<_> = curve.values().map(some).collect();
        values.try_into().unwrap()
    }

    pub(crate) async fn count(&self, table: &str) -> i64 {
        let rows = self
            .rows(&format!("SELECT count(*) AS n FROM {table}"))
            .await;
        rows[0].try_get("", "n").unwrap()
    }

    /// How many rows each table has that a save writes to.
    pub(crate) async fn counts(&self) -> [i64; 5] {
        let mut counts = [0; 5];
        let tables = [
            "series",
            "forecast_run",
            "forecast_curve",
            "change",
            "idempotency_key",
        ];
        for (count, table) in counts.iter_mut().zip(tables) {
            *count = self.count(table).await;
        }
        counts
    }

    /// Executes what another program may, as it is.
    pub(crate) async fn try_sql(&self, sql: &str) -> Result<u64, DbErr> {
        Ok(self
            .db
            .writer()
            .execute_unprepared(sql)
            .await?
            .rows_affected())
    }

    pub(crate) async fn sql(&self, sql: &str) -> u64 {
        let done = self.try_sql(sql).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub(crate) async fn rows(&self, sql: &str) -> Vec<QueryResult> {
        let statement = Statement::from_string(self.db.backend(), sql);
        self.db.reader().query_all_raw(statement).await.unwrap()
    }
}

pub(crate) const HOUR: time::Duration = time::Duration::HOUR;

/// The UTC day that most tests are about.
pub(crate) const DAY: OffsetDateTime = datetime!(2024-06-16 00:00 UTC);

pub(crate) fn plant(number: i64) -> UnitKey {
    UnitKey::new(unit::UnitType::Plant, number).unwrap()
}

/// Writes nothing of a unit but its key.
pub(crate) fn unit_upsert(key: UnitKey) -> UnitUpsert {
    UnitUpsert {
        key,
        name: Patch::Keep,
        time_zone: Patch::Keep,
        parent: Patch::Keep,
        capacity_mw: Patch::Keep,
        capacity_valid_from: None,
    }
}

/// Hourly forecasts of `plant:1` by `provider-a`.
pub(crate) fn series() -> SeriesKey {
    SeriesKey {
        unit: plant(1),
        provider: "provider-a".parse().unwrap(),
        resolution: Resolution::Hour,
    }
}

/// A run of [`series`], issued at a time, with values from an hour on.
pub(crate) fn run(
    issued_at: OffsetDateTime,
    start: OffsetDateTime,
    values: impl IntoIterator<Item = impl Into<Option<f64>>>,
) -> NewRun {
    run_of(&series(), issued_at, start, values)
}

pub(crate) fn run_of(
    series: &SeriesKey,
    issued_at: OffsetDateTime,
    start: OffsetDateTime,
    values: impl IntoIterator<Item = impl Into<Option<f64>>>,
) -> NewRun {
    NewRun {
        unit: series.unit,
        provider: series.provider.clone(),
        resolution: series.resolution,
        issued_at: Some(issued_at),
        values: RunValues::From {
            start,
            values: values.into_iter().map(Into::into).collect(),
        },
    }
}

pub(crate) fn some(mwh: f64) -> Option<f64> {
    (!mwh.is_nan()).then_some(mwh)
}

/// The delivery ranges of forecast changes, which they all must be.
pub(crate) fn ranges(changes: &[Change]) -> Vec<(OffsetDateTime, OffsetDateTime)> {
    let range = |change: &Change| match &change.subject {
        Subject::Forecast(forecast) => (forecast.from, forecast.to),
        other => panic!("not a forecast change: {other:?}"),
    };
    changes.iter().map(range).collect()
}
