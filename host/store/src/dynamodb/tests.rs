//! With canned responses; tests with servers are in `tests/launchdarkly/store_dynamodb.rs`.

use yardarm_testkit::Origin;

use super::*;
use crate::Trouble;
use crate::layout::TEST_LAYOUT;

fn store(origin: &Origin, prefix: &str) -> DynamoDb {
    let address = DynamoDbAddress::new(Some(&origin.url), Some("eu-west-1")).with_credentials();
    DynamoDb::new(&address, "table", prefix, TEST_LAYOUT)
}

fn record(key: &str, size: usize) -> Record {
    Record { key: key.into(), version: 3, text: "x".repeat(size).into() }
}

/// The operations of all requests in order, each with its keys.
fn operations(origin: &Origin) -> Vec<(String, Vec<String>)> {
    let request = |it: &yardarm_testkit::Arrived| {
        let target = it.header("x-amz-target").expect("a target");
        let body = it.json();
        let writes = body["RequestItems"]["table"].as_array().cloned().unwrap_or_default();
        let key = |write: &serde_json::Value| {
            let put = write["PutRequest"]["Item"]["key"]["S"].as_str();
            let delete = write["DeleteRequest"]["Key"]["key"]["S"].as_str().map(|it| format!("-{it}"));
            put.map(str::to_owned).or(delete).expect("a key")
        };
        (target.rsplit_once('.').expect("an operation").1.to_owned(), writes.iter().map(key).collect())
    };
    origin.requests().iter().map(request).collect()
}

const EMPTY: (u16, &str) = (200, r#"{"Items":[],"Count":0}"#);
const DONE: (u16, &str) = (200, r#"{"UnprocessedItems":{}}"#);

#[tokio::test]
async fn unprocessed_items_are_sent_again_before_the_marker() {
    // U105
    let origin = Origin::start().await;
    let item =
        |key: &str| format!(r#"{{"PutRequest":{{"Item":{{"namespace":{{"S":"p:things"}},"key":{{"S":"{key}"}}}}}}}}"#);
    let unprocessed = |keys: &[&str]| {
        let items: Vec<_> = keys.iter().map(|it| item(it)).collect();
        format!(r#"{{"UnprocessedItems":{{"table":[{}]}}}}"#, items.join(","))
    };
    let (two, one) = (unprocessed(&["24", "03"]), unprocessed(&["03"]));
    let throttled = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"slow down"}"#;
    origin.answers_in_turn(&[EMPTY, (200, &two), (400, throttled), (200, &one), DONE, DONE, (200, "{}")]);
    let records = (0..26).map(|number| record(&format!("{number:02}"), 1)).collect();
    let left_out = store(&origin, "p").replace(&[Collection { name: "things", records }]).await.unwrap();
    assert_eq!(left_out, []);
    let operations = operations(&origin);
    let names: Vec<_> = operations.iter().map(|it| it.0.as_str()).collect();
    let batch = "BatchWriteItem";
    assert_eq!(names, ["Query", batch, batch, batch, batch, batch, "PutItem"], "U105: the marker is last");
    assert_eq!(operations[1].1.len(), 25);
    assert_eq!(operations[2].1, ["24", "03"], "U105");
    assert_eq!(operations[3].1, ["24", "03"], "U105: a batch of which nothing was taken");
    assert_eq!((&operations[4].1, &operations[5].1), (&vec!["03".to_owned()], &vec!["25".to_owned()]), "U105");
    let marker = origin.requests().pop().expect("a request").json();
    assert_eq!(marker["Item"], serde_json::json!({"namespace": {"S": "p:complete"}, "key": {"S": "p:complete"}}));
}

#[tokio::test]
async fn collections_are_written_one_after_the_other_and_stale_items_deleted() {
    let origin = Origin::start().await;
    let page = r#"{"Items":[{"key":{"S":"a"}}],"LastEvaluatedKey":{"namespace":{"S":"things"},"key":{"S":"a"}}}"#;
    let last = r#"{"Items":[{"key":{"S":"gone"}}]}"#;
    origin.answers_in_turn(&[EMPTY, (200, page), (200, last), DONE, DONE, DONE, (200, "{}")]);
    let parts = Collection { name: "parts", records: vec![record("x", 1), record("huge", 400_000)] };
    let things = Collection { name: "things", records: vec![record("a", 1), record("b", 1)] };
    let left_out = store(&origin, "").replace(&[parts, things]).await.unwrap();
    // U104
    assert_eq!(left_out, [TooLarge { collection: "parts", key: "huge".into() }]);
    let keys: Vec<_> = operations(&origin).into_iter().skip(3).map(|it| it.1.join(" ")).collect();
    assert_eq!(keys, ["x", "a b", "-gone", ""], "U027, U104");
    let query = origin.requests()[2].json();
    assert_eq!(query["ExclusiveStartKey"]["key"]["S"], "a", "every page is read");
    assert_eq!(query["ConsistentRead"], true);
    assert_eq!(query["ExpressionAttributeValues"][":namespace"]["S"], "things", "no colon without a prefix");
    let item = origin.requests()[3].json()["RequestItems"]["table"][0]["PutRequest"]["Item"].clone();
    let expected = serde_json::json!({
        "namespace": {"S": "parts"}, "key": {"S": "x"}, "version": {"N": "3"}, "item": {"S": "x"},
    });
    assert_eq!(item, expected);
}

#[tokio::test]
async fn an_older_version_is_no_error_and_other_failures_have_classes() {
    let origin = Origin::start().await;
    let store = store(&origin, "p");
    let error = |code: &str| format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"text"}}"#);
    origin.answers(400, &error("ConditionalCheckFailedException"));
    assert_eq!(store.upsert("things", &record("a", 1)).await.unwrap(), Upserted::Older);
    assert_eq!(store.upsert("things", &record("a", 400_000)).await.unwrap(), Upserted::TooLarge);
    origin.answers(200, "{}");
    assert_eq!(store.upsert("things", &record("a", 1)).await.unwrap(), Upserted::Written);
    for (code, trouble, text) in [
        ("ResourceNotFoundException", Trouble::Missing, "table `table` does not exist"),
        ("UnrecognizedClientException", Trouble::Denied, "UnrecognizedClientException: text"),
        ("ValidationException", Trouble::Refused, "ValidationException: text"),
    ] {
        origin.answers(400, &error(code));
        let error = store.is_complete().await.unwrap_err();
        assert_eq!(error.trouble(), trouble, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn a_patch_of_members_checks_the_cursor_with_every_chunk_and_sets_it_last() {
    // U114
    let origin = Origin::start().await;
    origin.answers(200, "{}");
    let store = store(&origin, "p");
    let subjects = |range: std::ops::Range<usize>| range.map(|it| format!("{it:02}")).collect::<Vec<_>>();
    let patch = MembershipPatch {
        previous: "1".to_owned(),
        version: "2".to_owned(),
        group: "g".to_owned(),
        include: subjects(0..50),
        forget_excluded: subjects(0..10),
        exclude: subjects(50..55),
        forget_included: subjects(40..60),
    };
    assert_eq!(store.advance(&patch).await.unwrap(), Advanced::Applied);
    let requests: Vec<_> = origin.requests().iter().map(yardarm_testkit::Arrived::json).collect();
    assert_eq!(requests.len(), 4, "60 subjects in chunks of 24, and the cursor");
    let mut expressions = std::collections::BTreeMap::new();
    for request in &requests[..3] {
        let items = request["TransactItems"].as_array().expect("operations");
        assert!(items.len() <= 25);
        assert_eq!(items[0]["ConditionCheck"]["ConditionExpression"], "#cursor = :previous");
        assert_eq!(items[0]["ConditionCheck"]["Key"]["key"]["S"], "p:metadata");
        for item in &items[1..] {
            let update = &item["Update"];
            assert_eq!(update["ExpressionAttributeValues"][":group"], serde_json::json!({"SS": ["g"]}));
            assert_eq!(update["Key"]["namespace"]["S"], "p:subjects");
            let subject = update["Key"]["key"]["S"].as_str().expect("a subject").to_owned();
            let expression = update["UpdateExpression"].as_str().expect("an expression").to_owned();
            assert_eq!(expressions.insert(subject, expression), None, "one operation for each item");
        }
    }
    assert_eq!(expressions.len(), 60);
    for (subject, expected) in [
        ("05", "ADD #included :group DELETE #excluded :group"),
        ("20", "ADD #included :group"),
        ("45", "DELETE #included :group"),
        ("52", "ADD #excluded :group DELETE #included :group"),
        ("58", "DELETE #included :group"),
    ] {
        assert_eq!(expressions[subject], expected, "{subject}");
    }
    assert_eq!(requests[3]["UpdateExpression"], "SET #cursor = :version");
    assert_eq!(requests[3]["ConditionExpression"], "#cursor = :previous");

    let canceled = r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","message":"canceled",
        "CancellationReasons":[{"Code":"ConditionalCheckFailed"},{"Code":"None"}]}"#;
    origin.answers_in_turn(&[(400, canceled), (200, r#"{"Item":{"lastVersion":{"S":"7"}}}"#)]);
    assert_eq!(store.advance(&patch).await.unwrap(), Advanced::Refused { cursor: Some("7".to_owned()) });
    let first = MembershipPatch { version: "1".to_owned(), ..MembershipPatch::default() };
    origin.answers(200, "{}");
    assert_eq!(store.advance(&first).await.unwrap(), Advanced::Applied);
    let condition = origin.requests().pop().expect("a request").json()["ConditionExpression"].clone();
    assert_eq!(condition, "attribute_not_exists(#cursor) or #cursor = :previous");
}
