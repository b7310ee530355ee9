//! Whose forecasts a rule adds up.
//!
//! Of a plant it is its own series. Of a group or company it is the plants below
//! it, however deep, by the same provider and resolution: series of groups in
//! between would count them twice. Where there is no plant below, it is the
//! group's own series.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DbBackend, DbErr};

use crate::database::{json_list, sql};
use crate::forecast::Resolution;
use crate::unit::{self, Capacity, UnitKey, UnitType};

/// What stands behind a rule's unit.
#[derive(Debug, Clone)]
pub(super) struct Team {
    pub(super) unit: UnitKey,
    pub(super) name: String,
    pub(super) time_zone: String,
    /// Plants there are, with a series or without.
    pub(super) total: usize,
    /// Those that have a series.
    pub(super) members: Vec<Member>,
}

/// A unit with a series.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) unit: UnitKey,
    pub(super) name: String,
    pub(super) series_id: i64,
    /// Empty unless it was asked for.
    pub(super) capacity: Vec<Capacity>,
}

/// A unit, provider and resolution, by their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Root {
    pub(super) unit_id: i64,
    pub(super) provider_id: i64,
    pub(super) resolution: Resolution,
}

/// The team of each root, by one statement.
pub(super) async fn teams(
    db: &impl ConnectionTrait,
    roots: &[Root],
) -> Result<HashMap<Root, Team>, DbErr> {
    if roots.is_empty() {
        return Ok(HashMap::new());
    }
    let asked: Vec<_> = roots
        .iter()
        .map(|root| (root.unit_id, root.provider_id, root.resolution.as_str()))
        .collect();
    let given = match db.get_database_backend() {
        DbBackend::Postgres => {
            "SELECT k.place - 1 AS place, (k.value ->> 0)::bigint AS unit_id, (k.value ->> 1)::bigint AS provider_id, \
                 k.value ->> 2 AS resolution FROM json_array_elements($1::json) WITH ORDINALITY AS k (value, place)"
        }
        _ => {
            "SELECT k.key AS place, k.value ->> 0 AS unit_id, k.value ->> 1 AS provider_id, \
                 k.value ->> 2 AS resolution FROM json_each($1) k"
        }
    };
    let rows = db
        .query_all_raw(sql(
            db,
            // A circle of parents ends, since UNION gives each row once.
            format!(
                "WITH RECURSIVE root AS ({given}), below (place, id) AS ( \
                     SELECT place, unit_id FROM root \
                     UNION SELECT b.place, u.id FROM below b \
                         JOIN root r ON r.place = b.place \
                         JOIN unit top ON top.id = r.unit_id AND top.unit_type <> 'PLANT' \
                         JOIN unit u ON u.parent_id = b.id) \
                 SELECT b.place, u.id, u.unit_type, u.unit_number, u.name, u.time_zone, s.id AS series_id \
                 FROM below b JOIN root r ON r.place = b.place JOIN unit u ON u.id = b.id \
                 LEFT JOIN series s ON s.unit_id = u.id AND s.provider_id = r.provider_id \
                     AND s.resolution = r.resolution AND s.level = 'EXPECTED' \
                 ORDER BY b.place, u.unit_type, u.unit_number"
            ),
            [json_list(&asked)],
        ))
        .await?;
    let mut found: HashMap<Root, Team> = HashMap::with_capacity(roots.len());
    // Of a root itself: it counts only where there is no plant below.
    let mut own: HashMap<Root, Member> = HashMap::new();
    for row in rows {
        let place: i64 = row.try_get("", "place")?;
        let Some(root) = usize::try_from(place).ok().and_then(|i| roots.get(i)) else {
            continue;
        };
        let unit_type: String = row.try_get("", "unit_type")?;
        let number: i64 = row.try_get("", "unit_number")?;
        let unit = unit_type
            .parse()
            .and_then(|unit_type| UnitKey::new(unit_type, number))
            .map_err(|error| DbErr::Type(format!("a unit: {error}")))?;
        let name: String = row.try_get("", "name")?;
        let series_id: Option<i64> = row.try_get("", "series_id")?;
        let is_root = row.try_get::<i64>("", "id")? == root.unit_id;
        let team = found.entry(*root).or_insert_with(|| Team {
            unit,
            name: String::new(),
            time_zone: String::new(),
            total: 0,
            members: Vec::new(),
        });
        if is_root {
            team.unit = unit;
            team.name.clone_from(&name);
            team.time_zone = row.try_get("", "time_zone")?;
        }
        let member = series_id.map(|series_id| Member {
            unit,
            name,
            series_id,
            capacity: Vec::new(),
        });
        if unit.unit_type() == UnitType::Plant {
            team.total += 1;
            team.members.extend(member);
        } else if is_root && let Some(member) = member {
            own.insert(*root, member);
        }
    }
    for (root, team) in &mut found {
        if team.total == 0 {
            team.total = 1;
            team.members.extend(own.remove(root));
        }
    }
    Ok(found)
}

/// Adds the capacities of members.
pub(super) async fn read_capacities<'a>(
    db: &impl ConnectionTrait,
    teams: impl Iterator<Item = &'a mut Team>,
) -> Result<(), DbErr> {
    let teams: Vec<&mut Team> = teams.collect();
    let keys: Vec<UnitKey> = teams
        .iter()
        .flat_map(|team| team.members.iter().map(|member| member.unit))
        .collect();
    if keys.is_empty() {
        return Ok(());
    }
    let mut capacities: HashMap<UnitKey, Vec<Capacity>> = HashMap::new();
    for unit in unit::by_keys(db, &keys).await? {
        capacities.insert(unit.key, unit.capacity);
    }
    for member in teams.into_iter().flat_map(|team| &mut team.members) {
        if let Some(capacity) = capacities.get(&member.unit) {
            member.capacity.clone_from(capacity);
        }
    }
    Ok(())
}
