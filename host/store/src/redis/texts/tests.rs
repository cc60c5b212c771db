use yardarm_testkit::RedisServer;

use super::*;

const STREAM: &str = "s:events";
const WAIT: Duration = Duration::from_millis(20);

fn texts(server: &RedisServer) -> RedisTexts {
    RedisTexts::new(&RedisAddress::parse(&server.url(), false, None, None).unwrap())
}

fn append(text: &'static str, max_length: usize) -> TextChange {
    TextChange::Append(StreamEntry { stream: STREAM, field: "event", text: text.into(), max_length })
}

fn set(key: &str, text: &'static str) -> TextChange {
    TextChange::Set(key.to_owned(), text.into())
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|it| (*it).to_owned()).collect()
}

#[tokio::test]
async fn changes_are_executed_together_and_keys_are_found_by_pattern() {
    let Some(server) = RedisServer::start() else { return };
    let texts = texts(&server);
    let changes = [set("a-1", "x"), set("a-2", "y"), set("b-1", "z"), append("e", 2), TextChange::Remove("b-1".into())];
    texts.apply(&changes).await.unwrap();
    assert_eq!(texts.get(&names(&["a-2", "none", "a-1"])).await.unwrap(), [Some("y".into()), None, Some("x".into())]);
    assert_eq!(texts.get_one("a-1", WAIT * 100).await.unwrap(), Some("x".into()));
    assert_eq!(texts.matching("a-*").await.unwrap(), ["a-1", "a-2"]);
    assert_eq!(texts.count(&names(&["a-1", "b-1", "a-2"])).await.unwrap(), 2);
    assert!(texts.apply(&[set("a-1", "new"), append("no stream", 1), set(STREAM, "text")]).await.is_ok());
    let refused = texts.apply(&[append("the key has another type", 1)]).await.unwrap_err();
    assert_eq!(refused.trouble(), crate::Trouble::WrongType);
}

#[tokio::test]
async fn a_follower_gets_each_new_entry_once_and_notices_removed_ones() {
    let Some(server) = RedisServer::start() else { return };
    let texts = texts(&server);
    texts.apply(&[append("before", 3)]).await.unwrap();
    let mut follower = texts.follow(&[STREAM, "s:other"]).await.unwrap();
    assert_eq!(follower.next(WAIT).await.unwrap(), StreamNews::default());
    texts.apply(&[append("a", 3), append("b", 3)]).await.unwrap();
    let news = follower.next(WAIT).await.unwrap();
    assert_eq!(news, StreamNews { entries: vec![(STREAM, "a".into()), (STREAM, "b".into())], has_gap: false });
    let many: Vec<_> = ["c", "d", "e", "f", "g"].map(|it| append(it, 3)).into();
    texts.apply(&many).await.unwrap();
    let news = follower.next(WAIT).await.unwrap();
    assert!(news.has_gap && news.entries.len() == 3, "{news:?}");
    texts.apply(&[append("h", 3)]).await.unwrap();
    assert!(!follower.next(WAIT).await.unwrap().has_gap);
}

#[tokio::test]
async fn a_group_reads_each_entry_once_and_again_what_was_not_confirmed() {
    let Some(server) = RedisServer::start() else { return };
    let texts = texts(&server);
    texts.apply(&[append("before", 9)]).await.unwrap();
    let text = |all: Vec<GroupMessage>| all.into_iter().map(|it| it.text.unwrap()).collect::<Vec<_>>();
    let mut member = texts.join(STREAM, "g", false).await.unwrap();
    assert!(member.next(WAIT).await.unwrap().is_empty() && member.next(WAIT).await.unwrap().is_empty());
    texts.apply(&[append("a", 9), append("b", 9)]).await.unwrap();
    let read = member.next(WAIT).await.unwrap();
    member.confirm(&read[0]).await.unwrap();
    assert_eq!(text(read), ["a", "b"]);
    texts.apply(&[append("c", 9)]).await.unwrap();
    let mut member = texts.join(STREAM, "g", false).await.unwrap();
    assert_eq!(text(member.next(WAIT).await.unwrap()), ["b"], "read before, and not confirmed");
    server.ask(&["FLUSHALL"]);
    assert!(member.next(WAIT).await.unwrap_err().is_missing_group());
}
