use super::*;
use crate::store::fake::FakeStore;

const SECOND: Duration = Duration::from_secs(1);

fn lookup() -> (Arc<FakeStore>, Arc<MembershipLookup>) {
    let fake = FakeStore::new();
    let lookup = MembershipLookup::new(Arc::clone(&fake) as Arc<dyn Store>);
    lookup.synchronized(unix_ms());
    (fake, Arc::new(lookup))
}

fn assert_membership(fake: &FakeStore, key: &str, included: &[&str], excluded: &[&str]) {
    let owned = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect();
    let membership = Membership { included: owned(included), excluded: owned(excluded) };
    fake.lock().memberships.insert(Memberships::key_hash(key), membership);
}

fn calls(fake: &FakeStore) -> usize {
    std::mem::take(&mut fake.lock().calls).len()
}

#[tokio::test(start_paused = true)]
async fn included_wins_and_each_key_has_its_memberships() {
    let (fake, lookup) = lookup();
    assert_membership(&fake, "ann", &["a.g1", "b.g1"], &["b.g1", "c.g1"]);
    let memberships = lookup.memberships(&["ann", "bob"].map(HashedKey::from)).await;
    for (key, reference, inside) in
        [("ann", "a.g1", Some(true)), ("ann", "b.g1", Some(true)), ("ann", "c.g1", Some(false)), ("bob", "a.g1", None)]
    {
        assert_eq!(memberships.look_up(key, reference), (inside, BigSegmentsStatus::Healthy), "{key} {reference}");
    }
}

#[tokio::test(start_paused = true)]
async fn memberships_are_cached_for_a_moment() {
    let (fake, lookup) = lookup();
    for (pause, questions) in [(Duration::ZERO, 1), (SECOND * 4, 0), (SECOND, 1), (SECOND * 4, 0)] {
        tokio::time::sleep(pause).await;
        lookup.memberships(&["ann"].map(HashedKey::from)).await;
        assert_eq!(calls(&fake), questions, "after {pause:?} more");
    }
    lookup.changed();
    lookup.memberships(&["ann"].map(HashedKey::from)).await;
    assert_eq!(calls(&fake), 1, "evicted");
}

#[tokio::test(start_paused = true)]
async fn the_cache_is_bounded() {
    let (fake, lookup) = lookup();
    let keys: Vec<String> = (0..=ANSWERS).map(|it| it.to_string()).collect();
    for key in &keys {
        lookup.known(key);
        lookup.remember(key, &Arc::default(), 0);
    }
    assert_eq!(lookup.lock().answers.len(), ANSWERS);
    assert!(matches!(lookup.known("0"), CacheLookup::Nothing { .. }), "the oldest is forgotten");
    assert!(matches!(lookup.known("1"), CacheLookup::Hit(_)));
    assert_eq!(calls(&fake), 0);
}

#[tokio::test(start_paused = true)]
async fn memberships_from_before_a_change_are_not_cached() {
    let (fake, lookup) = lookup();
    let question = {
        let lookup = Arc::clone(&lookup);
        async move { lookup.memberships(&["ann"].map(HashedKey::from)).await }
    };
    let change = async {
        assert_membership(&fake, "ann", &["a.g1"], &[]);
        lookup.changed();
    };
    // The fake reads at once and responds later.
    let (before, ()) = tokio::join!(question, change);
    assert_eq!(before.look_up("ann", "a.g1").0, None);
    assert_eq!(lookup.memberships(&["ann"].map(HashedKey::from)).await.look_up("ann", "a.g1").0, Some(true));
}

#[tokio::test(start_paused = true)]
async fn a_failing_database_is_not_queried_for_a_moment() {
    let (fake, lookup) = lookup();
    lookup.memberships(&["known"].map(HashedKey::from)).await;
    fake.lock().is_down = true;
    calls(&fake);
    for (pause, questions) in [(Duration::ZERO, 1), (PAUSE / 2, 0), (PAUSE, 1)] {
        tokio::time::sleep(pause).await;
        let memberships = lookup.memberships(&["ann"].map(HashedKey::from)).await;
        assert_eq!(memberships.look_up("ann", "a.g1"), (None, BigSegmentsStatus::StoreError));
        assert_eq!(calls(&fake), questions);
    }
    assert_eq!(
        lookup.memberships(&["known"].map(HashedKey::from)).await.look_up("known", "a.g1").1,
        BigSegmentsStatus::Healthy
    );
    fake.lock().is_down = false;
    tokio::time::sleep(PAUSE).await;
    assert_eq!(
        lookup.memberships(&["ann"].map(HashedKey::from)).await.look_up("ann", "a.g1"),
        (None, BigSegmentsStatus::Healthy)
    );
}

#[tokio::test(start_paused = true)]
async fn age_decides_between_healthy_and_stale() {
    let (_fake, lookup) = lookup();
    for (age, status) in
        [(0, BigSegmentsStatus::Healthy), (119, BigSegmentsStatus::Healthy), (121, BigSegmentsStatus::Stale)]
    {
        lookup.synchronized(unix_ms() - age * 1000);
        assert_eq!(lookup.memberships(&["ann"].map(HashedKey::from)).await.look_up("ann", "a.g1").1, status, "{age} s");
    }
    lookup.lock().freshness.synchronized_on = 0;
    assert_eq!(
        lookup.memberships(&["ann"].map(HashedKey::from)).await.look_up("ann", "a.g1").1,
        BigSegmentsStatus::Stale,
        "never"
    );
}

#[tokio::test(start_paused = true)]
async fn freshness_is_read_periodically() {
    let (fake, lookup) = lookup();
    let watch = lookup.watch();
    let looks = async {
        tokio::time::sleep(SECOND).await;
        assert_eq!(lookup.freshness(), Freshness { is_available: true, synchronized_on: 0 }, "never");
        fake.lock().synchronized_on = Some(7);
        tokio::time::sleep(WATCH).await;
        assert_eq!(lookup.freshness(), Freshness { is_available: true, synchronized_on: 7 });
        fake.lock().is_down = true;
        tokio::time::sleep(WATCH).await;
        assert_eq!(lookup.freshness(), Freshness { is_available: false, synchronized_on: 0 });
    };
    tokio::select! {
        () = watch => panic!("it never ends"),
        () = looks => (),
    }
}
