//! What a latest view costs: from memory, and from the database by the number
//! of versions of the day.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use domain::Patch;
use domain::cache::{CacheSettings, Clock};
use domain::change::{self, Change, Epoch, ForecastChange, Operation, Position, Subject};
use domain::database::{Database, DatabaseSettings};
use domain::forecast::{
    self, Curve, DeliveryRange, Forecasts, ForecastsSettings, NewRun, Resolution, RunValues,
    SaveRequest, SeriesKey, View,
};
use domain::provider::{self, ProviderUpsert};
use domain::unit::{self, UnitKey, UnitType, UnitUpsert};
use futures_util::FutureExt;
use migration::testing::{POSTGRES_VARIABLE, TestDatabase};
use sea_orm::DbBackend;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::runtime::Runtime;

const DAY: OffsetDateTime = datetime!(2024-06-16 00:00 UTC);
const VERSIONS: [i32; 3] = [2, 20, 200];

/// What the versions of a day look like.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Each is of the whole day: the newest says it all.
    Whole,
    /// Re-issued during the day, each for what is left of it: the latest view
    /// is made of many.
    Rest,
}

/// A replica and its database.
struct Replica {
    backend: DbBackend,
    db: Database,
    forecasts: Forecasts,
    _place: TestDatabase,
}

impl Replica {
    async fn new(place: TestDatabase) -> Self {
        let db = Database::connect(&DatabaseSettings {
            url: place.url().to_owned(),
            max_connections: 2,
            acquire_timeout: Duration::from_secs(30),
            statement_timeout: Duration::from_secs(20),
            create_if_missing: false,
        })
        .await
        .expect("the database");
        let head = change::read_head(db.reader()).await.expect("its log");
        let cache = CacheSettings {
            budget_bytes: 64 << 20,
            time_to_live: Duration::from_secs(3600),
        };
        let settings = ForecastsSettings {
            latest: cache,
            history: cache,
            reference: cache,
        };
        let forecasts = Forecasts::new(&db, Clock::new(head).into(), settings);
        Self {
            backend: db.backend(),
            db,
            forecasts,
            _place: place,
        }
    }

    /// A series with so many versions of [`DAY`].
    async fn series(&self, resolution: Resolution, shape: Shape, versions: i32) -> SeriesKey {
        let number = i64::from(versions) * 10 + i64::from(matches!(shape, Shape::Rest));
        let series = SeriesKey {
            unit: UnitKey::new(UnitType::Plant, number).expect("a key"),
            provider: "provider-a".parse().expect("a key"),
            resolution,
        };
        let unit = UnitUpsert {
            key: series.unit,
            name: Patch::Keep,
            time_zone: Patch::Keep,
            parent: Patch::Keep,
            capacity_mw: Patch::Keep,
            capacity_valid_from: None,
        };
        let provider = ProviderUpsert {
            key: series.provider.clone(),
            name: None,
        };
        unit::upsert(&self.db, &[unit]).await.expect("a unit");
        provider::upsert(&self.db, &[provider])
            .await
            .expect("a provider");
        let periods = i32::try_from(resolution.periods_per_day()).expect("few");
        let run = |version: i32| {
            let first = match shape {
                Shape::Whole => 0,
                Shape::Rest => version * periods / versions,
            };
            let length = time::Duration::seconds(resolution.seconds());
            let mwh = |period: i32| Some(f64::from(version * 1000 + period) / 7.0);
            NewRun {
                unit: series.unit,
                provider: series.provider.clone(),
                resolution,
                issued_at: Some(DAY + time::Duration::minutes(version.into())),
                values: RunValues::From {
                    start: DAY + length * first,
                    values: (first..periods).map(mwh).collect(),
                },
            }
        };
        let request = SaveRequest {
            runs: (0..versions).map(run).collect(),
            idempotency_key: None,
        };
        forecast::save(&self.db, "bench", &request, DAY)
            .await
            .expect("a save");
        series
    }

    async fn curve(&self, series: &SeriesKey, view: View) -> Curve {
        let to = DAY + time::Duration::DAY;
        let range = DeliveryRange::covering(series.resolution, DAY, to, 1000).expect("a day");
        (self.forecasts.curve(series, range, view).await).expect("a curve")
    }

    /// From memory: nothing to wait for.
    fn warm(&self, series: &SeriesKey, view: View) -> Curve {
        let curve = self.curve(series, view).now_or_never();
        curve.expect("it is in memory")
    }

    /// Makes the day of a series be loaded again, as a change of it does.
    fn forget(&self, series: &SeriesKey, series_id: i64) {
        let clock = self.forecasts.clock();
        let number = clock.applied().number + 1;
        clock.observe(number);
        self.forecasts.invalidate(&Change {
            position: Position {
                epoch: Epoch(0),
                number,
            },
            operation: Operation::Insert,
            changed_at: DAY,
            subject: Subject::Forecast(ForecastChange {
                series: series.clone(),
                series_id,
                run_id: 1,
                from: DAY,
                to: DAY + time::Duration::DAY,
            }),
        });
        clock.advance(number);
    }

    async fn id_of(&self, series: &SeriesKey) -> i64 {
        use sea_orm::{ConnectionTrait, Statement};
        let sql = format!(
            "SELECT s.id FROM series s JOIN unit u ON u.id = s.unit_id WHERE u.unit_number = {}",
            series.unit.number()
        );
        let row = (self.db.reader())
            .query_one_raw(Statement::from_string(self.backend, sql))
            .await
            .expect("a query")
            .expect("the series");
        row.try_get("", "id").expect("its id")
    }
}

fn quick<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    group
}

/// The target: about a microsecond for one series and day, however many periods.
fn warm(criterion: &mut Criterion, runtime: &Runtime, replica: &Replica) {
    let mut group = quick(criterion, "warm");
    for resolution in [Resolution::Hour, Resolution::QuarterHour] {
        let series = runtime.block_on(replica.series(resolution, Shape::Whole, 3));
        runtime.block_on(replica.curve(&series, View::Latest));
        group.bench_function(BenchmarkId::new("latest", resolution), |b| {
            b.iter(|| black_box(replica.warm(&series, View::Latest)));
        });
        group.bench_function(
            BenchmarkId::new("latest, each value read", resolution),
            |b| {
                b.iter(|| replica.warm(&series, View::Latest).values().sum::<f64>());
            },
        );
    }
    for versions in VERSIONS {
        let series = runtime.block_on(replica.series(Resolution::Hour, Shape::Rest, versions));
        runtime.block_on(replica.curve(&series, View::Latest));
        group.bench_function(BenchmarkId::new("latest, versions", versions), |b| {
            b.iter(|| black_box(replica.warm(&series, View::Latest)));
        });
        let known = View::KnownAt(DAY + time::Duration::DAY);
        runtime.block_on(replica.curve(&series, known));
        group.bench_function(BenchmarkId::new("known at, versions", versions), |b| {
            b.iter(|| black_box(replica.warm(&series, known)));
        });
    }
    group.finish();
}

/// A database read and the overlay.
fn cold(criterion: &mut Criterion, runtime: &Runtime, replica: &Replica) {
    let mut group = quick(criterion, &format!("cold {:?}", replica.backend));
    for shape in [Shape::Whole, Shape::Rest] {
        for versions in VERSIONS {
            let series = runtime.block_on(replica.series(Resolution::Hour, shape, versions));
            let series_id = runtime.block_on(replica.id_of(&series));
            group.bench_function(BenchmarkId::new(format!("{shape:?}"), versions), |b| {
                b.iter(|| {
                    replica.forget(&series, series_id);
                    runtime.block_on(replica.curve(&series, View::Latest))
                });
            });
        }
    }
    group.finish();
}

fn benches(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let sqlite = || runtime.block_on(async { Replica::new(TestDatabase::sqlite().await).await });
    warm(criterion, &runtime, &sqlite());
    cold(criterion, &runtime, &sqlite());
    #[expect(
        clippy::disallowed_methods,
        reason = "benches are told their server by the environment"
    )]
    let server = std::env::var_os(POSTGRES_VARIABLE);
    if server.is_some() {
        let postgres =
            runtime.block_on(async { Replica::new(TestDatabase::postgres().await).await });
        cold(criterion, &runtime, &postgres);
    }
}

criterion_group!(latest, benches);
criterion_main!(latest);
