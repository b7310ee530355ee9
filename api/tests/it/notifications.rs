//! Notifications by GraphQL: each user has their own, on all their devices.

use serde_json::{Value, json};

use crate::client::{Client, Socket, code};
use crate::server::{Kind, TestServer, on_both, run_sql, started};
use crate::wait::soon;

on_both!(
    they_are_live_on_all_devices_of_their_user,
    a_device_goes_on_from_a_position,
    nobody_sees_anybody_elses,
    bad_input_changes_nothing,
    json_is_refused_if_it_would_not_read_back,
    stored_json_that_cannot_be_read_is_null,
    settings_are_set_at_once,
    what_is_to_wait_comes_by_itself,
    endpoints_are_registered_with_care,
    a_link_in_a_mail_ends_them,
);

const SEND: &str = "mutation($input: SendNotificationInput!) {
    sendNotification(input: $input) { notificationId recipients position } }";
const LIST: &str = "query($filter: NotificationFilter, $first: Int, $after: String) {
    unreadCount
    notifications(filter: $filter, first: $first, after: $after) {
        edges { cursor node { id title body severity category data link sender readAt arrivedAt expiresAt } }
        pageInfo { hasNextPage endCursor } } }";
const CHANGED: &str = "subscription($after: Position) { notificationChanged(after: $after) {
    position kind notificationIds unreadCount notification { id title readAt } } }";

/// What a user asks.
pub(crate) async fn ask(client: &Client, user: &str, query: &str, variables: Value) -> Value {
    let body = json!({ "query": query, "variables": variables });
    let request = client.http().post(client.url("/graphql"));
    let response = request.header("smartpulse-user", user).json(&body).send();
    response.await.unwrap().json().await.unwrap()
}

/// The data of an answer that must have no errors.
pub(crate) async fn data(client: &Client, user: &str, query: &str, variables: Value) -> Value {
    let mut answer = ask(client, user, query, variables).await;
    assert_eq!(answer["errors"], Value::Null, "{answer}");
    answer["data"].take()
}

/// Users by their keys, with a mail address each.
pub(crate) async fn create_users(client: &Client, keys: &[&str]) {
    let users: Vec<Value> = keys
        .iter()
        .map(|key| json!({ "key": key, "email": format!("{key}@example.org") }))
        .collect();
    client
        .data(
            "mutation($users: [UserInput!]!) { upsertUsers(input: { users: $users }) { users { key } } }",
            json!({ "users": users }),
        )
        .await;
}

/// Sends a notification, by default to users; what was answered.
pub(crate) async fn send(client: &Client, users: &[&str], more: Value) -> Value {
    let mut input = json!({ "to": { "users": users }, "title": "Wind is up" });
    for (name, value) in more.as_object().into_iter().flatten() {
        input[name] = value.clone();
    }
    let mut sent = client.data(SEND, json!({ "input": input })).await;
    sent["sendNotification"].take()
}

async fn follow(client: &Client, user: &str, after: Value) -> Socket {
    let init = json!({ "SmartPulse-User": user });
    let mut socket = client.try_connect(init).await.unwrap();
    socket
        .start("1", CHANGED, json!({ "after": after }))
        .await
        .unwrap();
    socket
}

async fn next(socket: &mut Socket) -> Value {
    socket.data().await["notificationChanged"].take()
}

/// A follower hears of what is sent once its subscription has joined: until then
/// something is sent again.
async fn joined(client: &Client, user: &str) -> (Socket, String) {
    let position = client.data("{ position }", Value::Null).await["position"].clone();
    // From a position it misses nothing, however late it joins.
    let socket = follow(client, user, position.clone()).await;
    (socket, position.as_str().unwrap().to_owned())
}

async fn they_are_live_on_all_devices_of_their_user(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    create_users(client, &["ada", "bob"]).await;
    let (mut phone, _) = joined(client, "ada").await;
    let (mut laptop, _) = joined(client, "ada").await;
    let (mut other, _) = joined(client, "bob").await;

    let sent = send(
        client,
        &["ada", "bob"],
        json!({ "body": "by 12 MWh", "severity": "WARNING", "category": "alert",
                "data": { "mwh": 12 }, "link": "/units/plant:1" }),
    )
    .await;
    let both = sent["notificationId"].clone();
    let only =
        send(client, &["ada"], json!({ "title": "Only you" })).await["notificationId"].clone();
    for device in [&mut phone, &mut laptop] {
        let change = next(device).await;
        assert_eq!(change["kind"], "ARRIVED");
        assert_eq!(change["position"], sent["position"]);
        assert_eq!(change["notification"]["id"], both);
        assert_eq!(change["notification"]["readAt"], Value::Null);
        let change = next(device).await;
        assert_eq!(change["notification"]["title"], "Only you");
        assert_eq!(change["unreadCount"], 2);
    }
    assert_eq!(next(&mut other).await["notificationIds"], json!([both]));

    let listed = data(client, "ada", LIST, json!({})).await;
    assert_eq!(listed["unreadCount"], 2);
    let node = &listed["notifications"]["edges"][1]["node"];
    assert_eq!(
        (
            &node["severity"],
            &node["category"],
            &node["data"],
            &node["link"],
            &node["sender"]
        ),
        (
            &json!("WARNING"),
            &json!("alert"),
            &json!({ "mwh": 12 }),
            &json!("/units/plant:1"),
            &json!("local")
        )
    );

    let read = data(
        client,
        "ada",
        "mutation($ids: [ID!]!) { markNotificationsRead(input: { ids: $ids }) { notificationIds unreadCount position } }",
        json!({ "ids": [both, both] }),
    )
    .await["markNotificationsRead"]
        .clone();
    assert_eq!(
        (&read["notificationIds"], &read["unreadCount"]),
        (&json!([both]), &json!(1))
    );
    for device in [&mut phone, &mut laptop] {
        let change = next(device).await;
        assert_eq!(
            (&change["kind"], &change["notificationIds"]),
            (&json!("READ"), &json!([both]))
        );
        assert_eq!(
            (&change["unreadCount"], &change["position"]),
            (&json!(1), &read["position"])
        );
    }
    let all = "mutation { markAllNotificationsRead { notificationIds unreadCount } }";
    let marked = data(client, "ada", all, json!({})).await;
    assert_eq!(
        marked["markAllNotificationsRead"],
        json!({ "notificationIds": [only], "unreadCount": 0 })
    );
    data(
        client,
        "ada",
        "mutation($ids: [ID!]!) { deleteNotifications(input: { ids: $ids }) { unreadCount } }",
        json!({ "ids": [only] }),
    )
    .await;
    let revoke =
        "mutation($id: ID!) { revokeNotification(input: { notificationId: $id }) { position } }";
    client.data(revoke, json!({ "id": both })).await;
    for device in [&mut phone, &mut laptop] {
        for (kind, id) in [("READ", &only), ("DELETED", &only), ("WITHDRAWN", &both)] {
            let change = next(device).await;
            assert_eq!(
                (&change["kind"], &change["notificationIds"]),
                (&json!(kind), &json!([id]))
            );
            assert_eq!(change["unreadCount"], 0);
        }
    }
    // What ada did is nobody else's.
    let change = next(&mut other).await;
    assert_eq!(
        (&change["kind"], &change["unreadCount"]),
        (&json!("WITHDRAWN"), &json!(0))
    );
    let listed = data(client, "ada", LIST, json!({})).await;
    assert_eq!(listed["notifications"]["edges"], json!([]));
}

async fn a_device_goes_on_from_a_position(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    create_users(client, &["ada", "bob"]).await;
    let (mut socket, before) = joined(client, "ada").await;
    let first = send(client, &["ada", "bob"], json!({})).await;
    send(client, &["bob"], json!({ "title": "Not you" })).await;
    assert_eq!(next(&mut socket).await["position"], first["position"]);
    drop(socket);
    let second = send(client, &["ada"], json!({ "title": "While away" })).await;
    let mark =
        "mutation($ids: [ID!]!) { markNotificationsRead(input: { ids: $ids }) { position } }";
    let ids = json!({ "ids": [second["notificationId"]] });
    data(client, "ada", mark, ids).await;
    let mut again = follow(client, "ada", first["position"].clone()).await;
    let change = next(&mut again).await;
    assert_eq!(change["notification"]["title"], "While away");
    assert_ne!(
        change["notification"]["readAt"],
        Value::Null,
        "as it is now"
    );
    assert_eq!(next(&mut again).await["kind"], "READ");
    // From the start of all it is the same, and nothing of others.
    let mut all = follow(client, "ada", json!(before)).await;
    let kinds = [
        next(&mut all).await["kind"].clone(),
        next(&mut all).await["kind"].clone(),
        next(&mut all).await["kind"].clone(),
    ];
    assert_eq!(kinds, ["ARRIVED", "ARRIVED", "READ"]);
    // The raw feed is for everybody, and says nothing of notifications.
    let feed = "subscription($after: Position) { changes(after: $after) { entity } }";
    let mut feed = client.subscribe(feed, json!({ "after": before })).await;
    client.prepare(1).await;
    assert_eq!(feed.data().await["changes"]["entity"], "UNIT");
}

/// A server that asks who is calling, and a key for each of some users.
async fn guarded(
    kind: Kind,
    users: &[(&str, &[&str])],
) -> (migration::testing::TestDatabase, TestServer, Vec<String>) {
    let database = kind.database().await;
    let open = TestServer::start(database.url()).await;
    let mut keys = Vec::new();
    for (user, roles) in users {
        let made = open
            .client
            .data(
                "mutation($input: CreateApiKeyInput!) { createApiKey(input: $input) { secret } }",
                json!({ "input": { "user": user, "name": "test", "roles": roles } }),
            )
            .await;
        keys.push(made["createApiKey"]["secret"].as_str().unwrap().to_owned());
    }
    let names: Vec<&str> = users.iter().map(|(user, _)| *user).collect();
    create_users(&open.client, &names).await;
    open.stop().await;
    let server = TestServer::start_with(database.url(), &["--auth", "required"]).await;
    (database, server, keys)
}

async fn ask_with(client: &Client, key: &str, query: &str, variables: Value) -> Value {
    let body = json!({ "query": query, "variables": variables });
    let request = client.http().post(client.url("/graphql"));
    let response = request.bearer_auth(key).json(&body).send();
    response.await.unwrap().json().await.unwrap()
}

async fn nobody_sees_anybody_elses(kind: Kind) {
    let roles: [(&str, &[&str]); 3] = [("ada", &[]), ("bob", &[]), ("system", &["SENDER"])];
    let (_database, server, keys) = guarded(kind, &roles).await;
    let [ada, bob, system] = &keys[..] else {
        panic!("{keys:?}")
    };
    let client = &server.client;
    let input = json!({ "input": { "to": { "users": ["ada"] }, "title": "Yours", "channels": ["IN_APP"] } });
    let refused = ask_with(client, ada, SEND, input.clone()).await;
    assert_eq!(code(&refused), "FORBIDDEN");
    let sent = ask_with(client, system, SEND, input).await;
    let id = sent["data"]["sendNotification"]["notificationId"].clone();
    assert_ne!(id, Value::Null, "{sent}");

    for (key, count) in [(ada, 1), (bob, 0), (system, 0)] {
        let listed = ask_with(client, key, LIST, json!({})).await;
        assert_eq!(listed["data"]["unreadCount"], count);
        let edges = listed["data"]["notifications"]["edges"].as_array();
        assert_eq!(edges.map(Vec::len), Some(usize::try_from(count).unwrap()));
        let node = "query($id: ID!) { node(id: $id) { id } }";
        let node = ask_with(client, key, node, json!({ "id": id })).await;
        assert_eq!(node["data"]["node"]["id"].is_string(), count == 1, "{node}");
    }
    // Bob can neither read nor delete it, and is not told that it is there.
    for change in ["markNotificationsRead", "deleteNotifications"] {
        let mutation = format!(
            "mutation($ids: [ID!]!) {{ change: {change}(input: {{ ids: $ids }}) {{ notificationIds }} }}"
        );
        let changed = ask_with(client, bob, &mutation, json!({ "ids": [id] })).await;
        assert_eq!(changed["data"]["change"]["notificationIds"], json!([]));
    }
    let revoke =
        "mutation($id: ID!) { revokeNotification(input: { notificationId: $id }) { position } }";
    let refused = ask_with(client, bob, revoke, json!({ "id": id })).await;
    assert_eq!(code(&refused), "FORBIDDEN");
    // A user may look at their own deliveries, and at nobody else's.
    let deliveries =
        "query($user: String) { deliveries(filter: { user: $user }) { edges { node { user } } } }";
    let own = ask_with(client, bob, deliveries, json!({ "user": Value::Null })).await;
    assert_eq!(own["data"]["deliveries"]["edges"], json!([]));
    let others = ask_with(client, bob, deliveries, json!({ "user": "ada" })).await;
    assert_eq!(code(&others), "FORBIDDEN");
    for mutation in [
        "mutation { upsertUsers(input: { users: [] }) { users { key } } }",
        "mutation { upsertUserGroups(input: { groups: [] }) { keys } }",
        "mutation { retryDeliveries { retried } }",
    ] {
        assert_eq!(
            code(&ask_with(client, bob, mutation, json!({})).await),
            "FORBIDDEN"
        );
    }
    // One subscription each, although both say the same.
    let mut sockets = Vec::new();
    for key in [ada, bob] {
        let init = json!({ "authorization": format!("Bearer {key}") });
        let mut socket = client.try_connect(init).await.unwrap();
        let epoch = sent["data"]["sendNotification"]["position"]
            .as_str()
            .unwrap();
        let start = format!("{}.0", epoch.split_once('.').unwrap().0);
        socket
            .start("1", CHANGED, json!({ "after": start }))
            .await
            .unwrap();
        sockets.push(socket);
    }
    assert_eq!(next(&mut sockets[0]).await["notificationIds"], json!([id]));
    let input = json!({ "input": { "to": { "users": ["bob"] }, "title": "Bob's" } });
    ask_with(client, system, SEND, input).await;
    assert_eq!(
        next(&mut sockets[1]).await["notification"]["title"],
        "Bob's"
    );
}

async fn bad_input_changes_nothing(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    create_users(client, &["ada"]).await;
    let to_ada = json!({ "users": ["ada"] });
    let long = "x".repeat(201);
    for (input, expect, path) in [
        (
            json!({ "to": { "users": ["nobody"] }, "title": "T" }),
            "NOT_FOUND",
            "to.users[0]",
        ),
        (
            json!({ "to": { "groups": ["nobody"] }, "title": "T" }),
            "NOT_FOUND",
            "to.groups[0]",
        ),
        (json!({ "to": {}, "title": "T" }), "BAD_USER_INPUT", "to"),
        (
            json!({ "to": to_ada, "title": long }),
            "BAD_USER_INPUT",
            "title",
        ),
        (
            json!({ "to": to_ada, "title": "T", "link": "javascript:alert(1)" }),
            "BAD_USER_INPUT",
            "link",
        ),
        (
            json!({ "to": to_ada, "title": "T", "data": { "x": "y".repeat(70_000) } }),
            "BAD_USER_INPUT",
            "data",
        ),
        (
            json!({ "to": to_ada, "title": "T", "template": "none" }),
            "NOT_FOUND",
            "template",
        ),
        (
            json!({ "to": to_ada, "title": "T", "variables": { "x": 1 } }),
            "BAD_USER_INPUT",
            "variables",
        ),
        (
            json!({ "to": to_ada, "title": "T", "template": "plain", "variables": { "x": 1 } }),
            "BAD_USER_INPUT",
            "variables",
        ),
        (
            json!({ "to": to_ada, "title": "T", "channels": [] }),
            "BAD_USER_INPUT",
            "channels",
        ),
        (
            json!({ "to": to_ada, "title": "T",
                    "attachments": [{ "fileName": "f", "mediaType": "text/plain", "contentBase64": "?" }] }),
            "BAD_USER_INPUT",
            "attachments[0].contentBase64",
        ),
    ] {
        let answer = client.graphql(SEND, json!({ "input": input })).await;
        assert_eq!(code(&answer), expect, "{answer}");
        let named = &answer["errors"][0]["extensions"]["violations"][0]["path"];
        assert_eq!(named, path, "{answer}");
    }
    let mail = json!({ "to": to_ada, "title": "T", "channels": ["EMAIL"] });
    let answer = client.graphql(SEND, json!({ "input": mail })).await;
    assert_eq!(code(&answer), "UNAVAILABLE", "{answer}");
    let message = answer["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("--smtp-url"), "{message}");

    let keyed = json!({ "to": to_ada, "title": "T", "idempotencyKey": "k" });
    let first = client.data(SEND, json!({ "input": keyed })).await;
    assert_eq!(
        client.data(SEND, json!({ "input": keyed })).await["sendNotification"]["notificationId"],
        first["sendNotification"]["notificationId"]
    );
    let other = json!({ "to": to_ada, "title": "U", "idempotencyKey": "k" });
    let answer = client.graphql(SEND, json!({ "input": other })).await;
    assert_eq!(code(&answer), "CONFLICT");
    let listed = data(client, "ada", LIST, json!({})).await;
    assert_eq!(
        listed["unreadCount"], 1,
        "only what was right was sent, and once"
    );

    let mark =
        "mutation($ids: [ID!]!) { markNotificationsRead(input: { ids: $ids }) { unreadCount } }";
    let answer = ask(client, "ada", mark, json!({ "ids": ["unit:plant:1"] })).await;
    assert_eq!(code(&answer), "BAD_USER_INPUT");
    let users = "mutation($users: [UserInput!]!) { upsertUsers(input: { users: $users }) { users { key } } }";
    let bad = json!({ "users": [{ "key": "ok" }, { "key": "x", "email": "nowhere", "timeZone": "Mars/Olympus" }] });
    let answer = client.graphql(users, bad).await;
    let paths: Vec<&str> = answer["errors"][0]["extensions"]["violations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|violation| violation["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["users[1].email", "users[1].timeZone"]);
    let listed = client
        .data("{ users { edges { node { key } } } }", json!({}))
        .await;
    let keys: Vec<&str> = listed["users"]["edges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edge| edge["node"]["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, ["ada"], "all or none");
}

/// A key that serde_json takes for its own.
const TOKEN: &str = "$serde_json::private::RawValue";

async fn json_is_refused_if_it_would_not_read_back(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    create_users(client, &["ada"]).await;
    let to = json!({ "users": ["ada"] });
    for data in [json!({ TOKEN: "x" }), json!({ "a": [{ TOKEN: "{}" }] })] {
        let input = json!({ "to": to, "title": "t", "data": data });
        let answer = client.graphql(SEND, json!({ "input": input })).await;
        assert_eq!(code(&answer), "BAD_USER_INPUT", "{answer}");
        assert!(answer.to_string().contains("are reserved"), "{answer}");
        let preview = "query($v: JSON) { mailPreview(variables: $v) { html } }";
        let answer = client.graphql(preview, json!({ "v": data })).await;
        assert_eq!(code(&answer), "BAD_USER_INPUT", "{answer}");
    }
    // Deeper than can be read: written into the document, which has no such limit.
    let deep = format!("{}1{}", "{ a: ".repeat(110), " }".repeat(110));
    let document = format!(
        "mutation {{ sendNotification(input: {{ to: {{ users: [\"ada\"] }}, title: \"t\", data: {deep} }}) {{ position }} }}"
    );
    let answer = client.graphql(&document, Value::Null).await;
    assert!(
        ["BAD_USER_INPUT", "TOO_COMPLEX"].contains(&code(&answer)),
        "{answer}"
    );
    let listed = data(client, "ada", LIST, Value::Null).await;
    assert_eq!(listed["notifications"]["edges"], json!([]));
    // What is no object says so.
    let input = json!({ "to": to, "title": "t", "data": [1] });
    let answer = client.graphql(SEND, json!({ "input": input })).await;
    let said = answer["errors"][0]["message"].as_str().unwrap();
    assert!(
        said.contains("expected a JSON object, not a list"),
        "{said}"
    );
    server.stop().await;
}

async fn stored_json_that_cannot_be_read_is_null(kind: Kind) {
    let (database, server) = started(kind).await;
    let client = &server.client;
    create_users(client, &["ada"]).await;
    let mut device = follow(client, "ada", Value::Null).await;
    let start = data(client, "ada", "{ position }", Value::Null).await["position"].take();
    send(
        client,
        &["ada"],
        json!({ "title": "broken", "data": { "a": 1 } }),
    )
    .await;
    send(
        client,
        &["ada"],
        json!({ "title": "whole", "data": { "a": 1 } }),
    )
    .await;
    for title in ["broken", "whole"] {
        let event = soon("a notification", device.next()).await.unwrap();
        let notification = &event["data"]["notificationChanged"]["notification"];
        assert_eq!(notification["title"], title, "{event}");
    }
    // As earlier versions stored it.
    run_sql(
        database.url(),
        &format!("UPDATE notification SET data = '{{\"{TOKEN}\": \"x\"}}' WHERE title = 'broken';"),
    );
    let listed = data(client, "ada", LIST, Value::Null).await;
    let edges = listed["notifications"]["edges"].as_array().unwrap();
    let all: Vec<_> = edges
        .iter()
        .map(|edge| (&edge["node"]["title"], &edge["node"]["data"]))
        .collect();
    assert_eq!(
        all,
        [
            (&json!("whole"), &json!({ "a": 1 })),
            (&json!("broken"), &Value::Null)
        ]
    );
    // Who follows from before it reads it from the log, and goes on.
    server.stop().await;
    let server = TestServer::start(database.url()).await;
    let mut device = follow(&server.client, "ada", start).await;
    for title in ["broken", "whole"] {
        let event = soon("a notification", device.next()).await.unwrap();
        assert_eq!(event["errors"], Value::Null, "{event}");
        let notification = &event["data"]["notificationChanged"]["notification"];
        assert_eq!(notification["title"], title, "{event}");
    }
    server.stop().await;
}

async fn settings_are_set_at_once(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    let update = "mutation($input: UpdateNotificationSettingsInput!) {
        updateNotificationSettings(input: $input) { settings {
            preferences { category channel enabled } quietHours { from until } criticalOverrides topics
            user { key locale timeZone } } } }";
    let input = json!({
        "preferences": [{ "category": "alert", "channel": "EMAIL", "enabled": false }, { "channel": "FCM", "enabled": true }],
        "quietHours": { "from": "22:30", "until": "07:00" }, "criticalOverrides": false,
        "subscribe": ["wind", "sun"], "locale": "de-AT", "timeZone": "Europe/Vienna" });
    let set = data(client, "ada", update, json!({ "input": input })).await;
    insta::assert_snapshot!(set["updateNotificationSettings"]["settings"], @r#"{"criticalOverrides":false,"preferences":[{"category":null,"channel":"FCM","enabled":true},{"category":"alert","channel":"EMAIL","enabled":false}],"quietHours":{"from":"22:30","until":"07:00"},"topics":["sun","wind"],"user":{"key":"ada","locale":"de-AT","timeZone":"Europe/Vienna"}}"#);
    let wrong = json!({ "input": { "subscribe": ["rain"], "quietHours": { "from": "24:00", "until": "07:00" } } });
    let answer = ask(client, "ada", update, wrong).await;
    assert_eq!(
        answer["errors"][0]["extensions"]["violations"][0]["path"],
        "quietHours.from"
    );
    let wrong = json!({ "input": { "subscribe": ["rain"], "timeZone": "Mars/Olympus" } });
    assert_eq!(
        code(&ask(client, "ada", update, wrong).await),
        "BAD_USER_INPUT"
    );
    let less = json!({ "input": { "unsubscribe": ["sun"], "quietHours": Value::Null,
        "preferences": [{ "category": "alert", "channel": "EMAIL", "enabled": Value::Null }] } });
    let set = data(client, "ada", update, less).await;
    let settings = &set["updateNotificationSettings"]["settings"];
    assert_eq!(settings["topics"], json!(["wind"]));
    assert_eq!(settings["quietHours"], Value::Null);
    assert_eq!(settings["preferences"].as_array().map(Vec::len), Some(1));
    // A topic reaches who asked for it.
    let sent = send(client, &[], json!({ "to": { "topics": ["wind"] } })).await;
    assert_eq!(sent["recipients"], 1);
    assert_eq!(
        data(client, "ada", "{ unreadCount }", json!({})).await["unreadCount"],
        1
    );
}

async fn what_is_to_wait_comes_by_itself(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    create_users(client, &["ada"]).await;
    let (mut socket, _) = joined(client, "ada").await;
    let now = time::OffsetDateTime::now_utc();
    let at = |seconds: i64| {
        let at = now + time::Duration::seconds(seconds);
        at.format(&time::format_description::well_known::Rfc3339)
            .unwrap()
    };
    let times = json!({ "notBefore": at(1), "expiresAt": at(3) });
    let id = send(client, &["ada"], times).await["notificationId"].clone();
    assert_eq!(
        data(client, "ada", "{ unreadCount }", json!({})).await["unreadCount"],
        0
    );
    let change = next(&mut socket).await;
    assert_eq!(
        (&change["kind"], &change["notificationIds"]),
        (&json!("ARRIVED"), &json!([id]))
    );
    assert!(time::OffsetDateTime::now_utc() >= now + time::Duration::seconds(1));
    let change = next(&mut socket).await;
    assert_eq!(
        (&change["kind"], &change["notificationIds"]),
        (&json!("WITHDRAWN"), &json!([id]))
    );
    assert_eq!(change["unreadCount"], 0);
}

async fn endpoints_are_registered_with_care(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    let webhook = "mutation($url: String!) { registerWebhook(input: { url: $url }) { endpoint { id channel address } secret } }";
    for url in [
        "http://example.org/hook",
        "https://127.0.0.1/hook",
        "https://[::1]/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.7/",
        "https://user:password@example.org/",
        "ftp://example.org/",
        "not an address",
    ] {
        let answer = ask(client, "ada", webhook, json!({ "url": url })).await;
        assert_eq!(code(&answer), "BAD_USER_INPUT", "{url}: {answer}");
    }
    // What the resolver said is for the log.
    let unknown = json!({ "url": "https://nobody.invalid/hook" });
    let answer = ask(client, "ada", webhook, unknown).await;
    let said = &answer["errors"][0]["message"];
    assert_eq!(said, "the address's host cannot be found", "{answer}");
    let push = "mutation($input: RegisterWebPushInput!) { registerWebPush(input: $input) { endpoint { id } } }";
    let input = json!({ "input": { "endpoint": "https://push.example.org/x", "p256dh": "AA", "auth": "AA" } });
    let answer = ask(client, "ada", push, input).await;
    assert_eq!(
        code(&answer),
        "UNAVAILABLE",
        "web push is not set up: {answer}"
    );
    let device = "mutation { registerDevice(input: { token: \"t\" }) { endpoint { id } } }";
    assert_eq!(
        code(&ask(client, "ada", device, json!({})).await),
        "UNAVAILABLE"
    );
    let listed = data(
        client,
        "ada",
        "{ endpoints { id } channels webPushPublicKey }",
        json!({}),
    )
    .await;
    assert_eq!(
        listed,
        json!({ "endpoints": [], "channels": ["IN_APP", "WEBHOOK"], "webPushPublicKey": Value::Null })
    );
    server.stop().await;

    let database = kind.database().await;
    let contact = ["--web-push-contact", "mailto:ops@example.org"];
    let server = TestServer::start_with(database.url(), &contact).await;
    let client = &server.client;
    let keys = json!({ "endpoint": "https://127.0.0.1/x", "auth": "8eDyX_uCN0XRhSbY5hs7Hg",
        "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4" });
    for (field, value) in [
        ("p256dh", json!("AA")),
        ("auth", json!("AA")),
        ("endpoint", json!("https://127.0.0.1/x")),
    ] {
        let mut input = keys.clone();
        input[field] = value;
        let answer = ask(client, "ada", push, json!({ "input": input })).await;
        assert_eq!(code(&answer), "BAD_USER_INPUT", "{field}: {answer}");
    }
    let key = data(client, "ada", "{ webPushPublicKey }", json!({})).await;
    let key = key["webPushPublicKey"].as_str().unwrap().to_owned();
    assert_eq!(key.len(), 87, "an uncompressed point, base64url");
    server.stop().await;
    // It stays: browsers have subscribed to it.
    let server = TestServer::start_with(database.url(), &contact).await;
    let again = data(&server.client, "ada", "{ webPushPublicKey }", json!({})).await;
    assert_eq!(again["webPushPublicKey"], key);
}

/// What the system says of a name is nothing to tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_cannot_be_found_is_all_that_is_told() {
    let database = Kind::Sqlite.database().await;
    let contact = ["--web-push-contact", "mailto:ops@example.org"];
    let server = TestServer::start_with(database.url(), &contact).await;
    let address = "https://no-such-host.invalid/hook";
    let keys = json!({ "endpoint": address, "auth": "8eDyX_uCN0XRhSbY5hs7Hg",
        "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4" });
    for (path, mutation, variables) in [
        (
            "url",
            "mutation($url: String!) { registerWebhook(input: { url: $url }) { secret } }",
            json!({ "url": address }),
        ),
        (
            "endpoint",
            "mutation($keys: RegisterWebPushInput!) { registerWebPush(input: $keys) { endpoint { id } } }",
            json!({ "keys": keys }),
        ),
    ] {
        let answer = ask(&server.client, "ada", mutation, variables).await;
        assert_eq!(code(&answer), "BAD_USER_INPUT", "{answer}");
        let message = "the address's host cannot be found";
        let error = &answer["errors"][0];
        assert_eq!(error["message"], message);
        assert_eq!(
            error["extensions"]["violations"],
            json!([{ "path": path, "message": message }])
        );
    }
    server.stop().await;
}

async fn a_link_in_a_mail_ends_them(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    let (status, page) = client.get("/unsubscribe?token=forged").await;
    assert_eq!(status, 400);
    assert!(page.contains("does not work"), "{page}");
    let post = client.http().post(client.url("/unsubscribe?token=forged"));
    assert_eq!(post.send().await.unwrap().status(), 400);
}
