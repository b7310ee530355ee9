//! Who produces and who forecasts in the demo. All of it is invented; places
//! and capacities are such as there are.

use domain::forecast::Resolution;

/// A company, or a group of plants within one.
pub(super) struct Holder {
    pub(super) key: &'static str,
    pub(super) name: &'static str,
    pub(super) time_zone: &'static str,
    pub(super) parent: Option<&'static str>,
}

pub(super) struct Plant {
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) group: &'static str,
    pub(super) time_zone: &'static str,
    /// Plants of a region share its fronts and clouds.
    pub(super) region: u64,
    pub(super) latitude: f64,
    pub(super) longitude: f64,
    pub(super) capacity_mw: f64,
    pub(super) technology: Technology,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Technology {
    Solar,
    /// With the year's mean wind speed at hub height, in m/s.
    Wind {
        mean_speed: f64,
    },
}

/// A provider, and how it works.
pub(super) struct Provider {
    pub(super) key: &'static str,
    pub(super) name: &'static str,
    /// How wrong it is a day ahead, in standard deviations of the weather.
    pub(super) error: f64,
    /// Sees rather more (or less) wind and sun than there is, in standard deviations.
    pub(super) bias: f64,
}

/// What a provider issues regularly for each plant.
pub(super) struct Schedule {
    pub(super) provider: &'static Provider,
    pub(super) resolution: Resolution,
    pub(super) horizon_hours: i64,
    pub(super) every_hours: i64,
}

static BOREALIS: Provider = Provider {
    key: "borealis",
    name: "Borealis Forecasting",
    error: 0.35,
    bias: 0.0,
};
static HELIOS: Provider = Provider {
    key: "helios",
    name: "Helios & Wind Analytics",
    error: 0.6,
    bias: 0.1,
};
static ZEPHYR: Provider = Provider {
    key: "zephyr",
    name: "Zephyr Weather Service",
    error: 1.0,
    bias: -0.2,
};

pub(super) static PROVIDERS: [&Provider; 3] = [&BOREALIS, &HELIOS, &ZEPHYR];

pub(super) static SCHEDULES: [Schedule; 4] = [
    Schedule {
        provider: &BOREALIS,
        resolution: Resolution::Hour,
        horizon_hours: 72,
        every_hours: 12,
    },
    Schedule {
        provider: &HELIOS,
        resolution: Resolution::Hour,
        horizon_hours: 48,
        every_hours: 6,
    },
    Schedule {
        provider: &ZEPHYR,
        resolution: Resolution::Hour,
        horizon_hours: 36,
        every_hours: 6,
    },
    // The next hours, finer.
    Schedule {
        provider: &BOREALIS,
        resolution: Resolution::QuarterHour,
        horizon_hours: 6,
        every_hours: 3,
    },
];

const MADRID: &str = "Europe/Madrid";
const BERLIN: &str = "Europe/Berlin";
const COPENHAGEN: &str = "Europe/Copenhagen";
const ISTANBUL: &str = "Europe/Istanbul";
const LISBON: &str = "Europe/Lisbon";

const fn holder(
    key: &'static str,
    name: &'static str,
    time_zone: &'static str,
    parent: Option<&'static str>,
) -> Holder {
    Holder {
        key,
        name,
        time_zone,
        parent,
    }
}

/// Companies before their groups.
pub(super) static HOLDERS: [Holder; 11] = [
    holder("company:1", "Iberian Renewables", MADRID, None),
    holder("company:2", "North Sea Power", BERLIN, None),
    holder("company:3", "Anatolian Green Energy", ISTANBUL, None),
    holder("group:11", "Spain solar", MADRID, Some("company:1")),
    holder("group:12", "Spain wind", MADRID, Some("company:1")),
    holder("group:13", "Portugal", LISBON, Some("company:1")),
    holder("group:21", "Germany wind", BERLIN, Some("company:2")),
    holder("group:22", "Germany solar", BERLIN, Some("company:2")),
    holder("group:23", "Denmark wind", COPENHAGEN, Some("company:2")),
    holder("group:31", "Türkiye solar", ISTANBUL, Some("company:3")),
    holder("group:32", "Türkiye wind", ISTANBUL, Some("company:3")),
];

/// Number, name, group, zone, region, latitude, longitude, capacity in MW, and
/// what it is.
type Row = (
    u32,
    &'static str,
    &'static str,
    &'static str,
    u64,
    f64,
    f64,
    f64,
    Technology,
);

const fn plant(row: Row) -> Plant {
    let (number, name, group, time_zone, region, latitude, longitude, capacity_mw, technology) =
        row;
    Plant {
        number,
        name,
        group,
        time_zone,
        region,
        latitude,
        longitude,
        capacity_mw,
        technology,
    }
}

const SOLAR: Technology = Technology::Solar;

const fn wind(mean_speed: f64) -> Technology {
    Technology::Wind { mean_speed }
}

#[rustfmt::skip]
pub(super) static PLANTS: [Plant; 31] = [
    plant((1101, "Guadiana I", "group:11", MADRID, 1, 38.88, -6.97, 120.0, SOLAR)),
    plant((1102, "Guadiana II", "group:11", MADRID, 1, 38.92, -6.80, 85.0, SOLAR)),
    plant((1103, "Campo de Níjar", "group:11", MADRID, 2, 36.97, -2.21, 50.0, SOLAR)),
    plant((1104, "Llanos de Albacete", "group:11", MADRID, 2, 38.99, -1.86, 200.0, SOLAR)),
    plant((1105, "Teruel Sur", "group:11", MADRID, 3, 40.35, -1.11, 49.9, SOLAR)),
    plant((1201, "Estrecho de Tarifa", "group:12", MADRID, 2, 36.05, -5.63, 74.0, wind(8.6))),
    plant((1202, "Sierra de la Muela", "group:12", MADRID, 3, 41.58, -1.12, 132.0, wind(7.4))),
    plant((1203, "Costa da Morte", "group:12", MADRID, 4, 43.13, -9.15, 96.0, wind(8.2))),
    plant((1204, "Páramo de Poza", "group:12", MADRID, 3, 42.67, -3.50, 99.0, wind(7.1))),
    plant((1205, "Alto Palancia", "group:12", MADRID, 3, 39.93, -0.62, 48.0, wind(6.9))),
    plant((1301, "Alqueva", "group:13", LISBON, 1, 38.20, -7.49, 46.0, SOLAR)),
    plant((1302, "Serra do Caldeirão", "group:13", LISBON, 1, 37.31, -7.83, 72.0, wind(6.8))),
    plant((1303, "Alto Minho", "group:13", LISBON, 4, 42.05, -8.36, 240.0, wind(7.6))),
    plant((2101, "Nordfriesland", "group:21", BERLIN, 5, 54.63, 8.90, 150.0, wind(8.1))),
    plant((2102, "Dithmarschen", "group:21", BERLIN, 5, 54.12, 9.05, 110.0, wind(7.7))),
    plant((2103, "Uckermark", "group:21", BERLIN, 6, 53.25, 13.85, 180.0, wind(6.9))),
    plant((2104, "Hunsrück", "group:21", BERLIN, 7, 49.95, 7.30, 60.0, wind(6.6))),
    plant((2105, "Deutsche Bucht", "group:21", BERLIN, 5, 54.30, 5.80, 400.0, wind(9.8))),
    plant((2201, "Lausitz", "group:22", BERLIN, 6, 51.55, 14.10, 160.0, SOLAR)),
    plant((2202, "Donautal", "group:22", BERLIN, 7, 48.75, 12.10, 54.0, SOLAR)),
    plant((2203, "Weesow", "group:22", BERLIN, 6, 52.65, 13.70, 187.0, SOLAR)),
    plant((2301, "Vestjylland", "group:23", COPENHAGEN, 5, 56.20, 8.25, 90.0, wind(8.3))),
    plant((2302, "Lolland", "group:23", COPENHAGEN, 6, 54.75, 11.25, 65.0, wind(7.6))),
    plant((2303, "Kattegat", "group:23", COPENHAGEN, 5, 56.60, 11.20, 300.0, wind(9.4))),
    plant((3101, "Karapınar", "group:31", ISTANBUL, 8, 37.72, 33.55, 250.0, SOLAR)),
    plant((3102, "Harran", "group:31", ISTANBUL, 9, 36.87, 39.02, 100.0, SOLAR)),
    plant((3103, "Elmalı", "group:31", ISTANBUL, 8, 36.74, 29.92, 60.0, SOLAR)),
    plant((3201, "Çeşme", "group:32", ISTANBUL, 8, 38.30, 26.37, 52.0, wind(8.0))),
    plant((3202, "Balıkesir", "group:32", ISTANBUL, 8, 39.65, 27.90, 143.0, wind(7.8))),
    plant((3203, "Belen Geçidi", "group:32", ISTANBUL, 9, 36.48, 36.20, 48.0, wind(7.9))),
    plant((3204, "Gökçeada", "group:32", ISTANBUL, 8, 40.20, 25.90, 30.0, wind(8.4))),
];
