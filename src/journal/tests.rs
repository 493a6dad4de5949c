//! The journal over its thread and its file: what is kept, what comes back, how much there is room for.

use std::sync::Arc;

use super::*;
use crate::gap::{Cause, Certainty};
use crate::ids::{GapId, QueueId, SubscriptionId, UserId};

const SETTINGS: JournalSettings =
    JournalSettings { max_bytes: 1 << 20, max_in_flight: 8, share: 1024, max_answer: 64 * 1024 };

fn keys() -> Arc<KeyRing> {
    Arc::new(KeyRing::from_text("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=").unwrap())
}

fn open(directory: &std::path::Path, settings: JournalSettings) -> (Journal, Feed) {
    // a lock is let go of when the last clone and its thread are gone
    let folder = loop {
        match Folder::open(directory) {
            Ok(folder) => break folder,
            Err(JournalError::InUse(_)) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    let metrics = Arc::new(Metrics::new("test", "test").unwrap());
    Journal::open(folder, keys(), settings, metrics).unwrap()
}

fn of(user: &str) -> RowOf {
    RowOf {
        user: UserId::from(user),
        partition: 0,
        owner_epoch: 1,
        subscription_id: SubscriptionId::from("wish"),
    }
}

fn answer(body: &[u8]) -> Answer {
    Answer {
        queue: QueueId::from("q"),
        generation: 1,
        asked_at: Timestamp(50),
        received_at: Timestamp(51),
        received: None,
        kind: AnswerKind::Events,
        body: body.to_vec(),
    }
}

fn body_of(row: &Row) -> &[u8] {
    &row.change.answer().unwrap().body
}

#[tokio::test]
async fn rows_are_shown_ahead_and_given_in_their_turn_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, mut feed) = open(directory.path(), SETTINGS);
    feed.begin(0, Timestamp(77)).unwrap();
    for body in ["one", "two", "three", "four"] {
        journal.keep(of("u"), Change::Answered(answer(body.as_bytes()))).await.unwrap();
    }
    assert_eq!(body_of(&feed.next().await.unwrap()), b"one");
    let mut shown = Vec::new();
    let is_whole = feed.look_ahead(1, 3, |row| {
        shown.push(body_of(row).to_vec());
        true
    });
    assert!(is_whole);
    assert_eq!(shown, [&b"two"[..], b"three"]);
    assert!(!feed.look_ahead(1, 3, |_| false), "a row was not wanted");
    for body in ["two", "three", "four"] {
        assert_eq!(body_of(&feed.next().await.unwrap()), body.as_bytes());
    }
}

#[tokio::test]
async fn what_is_kept_comes_in_order_and_again_after_a_restart_until_it_is_published() {
    let directory = tempfile::tempdir().unwrap();
    {
        let (journal, mut feed) = open(directory.path(), SETTINGS);
        feed.begin(0, Timestamp(77)).unwrap();
        for body in ["one", "two", "three"] {
            journal.keep(of("user"), Change::Answered(answer(body.as_bytes()))).await.unwrap();
        }
        let first = feed.next().await.unwrap();
        assert_eq!((first.number, body_of(&first)), (1, &b"one"[..]));
        assert_eq!(feed.next().await.unwrap().number, 2);
    }
    let (journal, mut feed) = open(directory.path(), SETTINGS);
    feed.begin(1, Timestamp(77)).unwrap();
    let second = feed.next().await.unwrap();
    assert_eq!((second.number, body_of(&second)), (2, &b"two"[..]));
    assert_eq!(second.of, of("user"));
    assert_eq!(feed.next().await.unwrap().number, 3);
    journal.keep(of("user"), Change::Answered(answer(b"four"))).await.unwrap();
    let fourth = feed.next().await.unwrap();
    assert_eq!((fourth.number, body_of(&fourth)), (4, &b"four"[..]));
    drop(journal);
    assert!(feed.next().await.is_none());
}

#[tokio::test]
async fn rows_that_do_not_stay_in_memory_are_read_back_in_their_turn() {
    let directory = tempfile::tempdir().unwrap();
    let settings = JournalSettings { max_bytes: 1 << 30, ..SETTINGS };
    let (journal, mut feed) = open(directory.path(), settings);
    feed.begin(0, Timestamp(77)).unwrap();
    let body = vec![7; 700 * 1024];
    for _ in 0..60 {
        journal.keep(of("user"), Change::Answered(answer(&body))).await.unwrap();
    }
    let mut numbers = Vec::new();
    for _ in 0..30 {
        let row = feed.next().await.unwrap();
        assert_eq!(body_of(&row).len(), body.len());
        numbers.push(row.number);
    }
    let back = feed.next().await.unwrap();
    assert_eq!(back.number, 31);
    feed.put_back(back);
    for _ in 0..10 {
        journal.keep(of("user"), Change::Answered(answer(b"small"))).await.unwrap();
    }
    for _ in 0..40 {
        numbers.push(feed.next().await.unwrap().number);
    }
    assert_eq!(numbers, (1..=70).collect::<Vec<u64>>());
    assert!(feed.try_next().is_none());
}

#[tokio::test]
async fn a_number_never_repeats_even_when_everything_is_published() {
    let directory = tempfile::tempdir().unwrap();
    for position in 0..3 {
        let (journal, mut feed) = open(directory.path(), SETTINGS);
        feed.begin(position, Timestamp(77)).unwrap();
        journal.keep(of("user"), Change::Unsuspected).await.unwrap();
        let row = feed.next().await.unwrap();
        assert_eq!(row.number, position + 1);
        feed.published(row.number, Some(row.end));
    }
}

#[tokio::test]
async fn a_change_that_somebody_asked_for_is_settled_by_the_publisher_and_withdrawn_by_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    {
        let (journal, mut feed) = open(directory.path(), SETTINGS);
        feed.begin(0, Timestamp(77)).unwrap();
        let asked = tokio::spawn({
            let journal = journal.clone();
            async move { journal.keep(of("user"), Change::Removed).await }
        });
        let row = feed.next().await.unwrap();
        assert!(matches!(row.change, Change::Removed));
        assert!(!asked.is_finished());
        row.settle.unwrap().send(Err(Unsettled::NotOwned)).unwrap();
        assert_eq!(asked.await.unwrap(), Err(Unsettled::NotOwned));
    }
    let (_journal, mut feed) = open(directory.path(), SETTINGS);
    feed.begin(0, Timestamp(77)).unwrap();
    let row = feed.next().await.unwrap();
    assert!(matches!(row.change, Change::Withdrawn) && row.settle.is_none());
}

#[tokio::test]
async fn who_was_being_asked_without_an_answer_on_disk_is_suspected_and_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let queue = QueueId::from("q");
    {
        let (journal, mut feed) = open(directory.path(), SETTINGS);
        feed.begin(0, Timestamp(77)).unwrap();
        let asking = |of: RowOf| {
            let asked_at = Timestamp(50);
            let answered_before = Timestamp(40);
            journal.enter(&Asking { of: &of, queue: &queue, asked_at, answered_before }).unwrap()
        };
        let _lost = asking(of("lost"));
        asking(of("over")).over();
        let _kept = asking(of("kept"));
        journal.keep(of("kept"), Change::Answered(answer(b"[]"))).await.unwrap();
    }
    let (_journal, mut feed) = open(directory.path(), SETTINGS);
    feed.begin(0, Timestamp(77)).unwrap();
    assert_eq!(feed.next().await.unwrap().of.user.as_str(), "kept");
    let row = feed.next().await.unwrap();
    assert_eq!(row.of, of("lost"));
    assert!(matches!(row.change, Change::Suspected { since: Timestamp(40), .. }), "{row:?}");
    assert!(feed.try_next().is_none());
    drop((_journal, feed));
    let (_journal, mut feed) = open(directory.path(), SETTINGS);
    feed.begin(2, Timestamp(77)).unwrap();
    assert!(feed.try_next().is_none(), "a suspicion is written down once");
}

#[tokio::test]
async fn room_gets_short_before_it_is_out_and_comes_back_with_what_is_published() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, mut feed) = open(directory.path(), SETTINGS);
    feed.begin(0, Timestamp(77)).unwrap();
    let mut seen = vec![journal.stock()];
    let mut last = None;
    while *seen.last().unwrap() != Stock::None {
        journal.keep(of("user"), Change::Answered(answer(&[1; 8 * 1024]))).await.unwrap();
        last = feed.next().await;
        if journal.stock() != *seen.last().unwrap() {
            seen.push(journal.stock());
        }
    }
    assert_eq!(seen, [Stock::Plenty, Stock::Scarce, Stock::None]);
    assert!(journal.bytes() <= SETTINGS.max_bytes);
    let last = last.unwrap();
    feed.published(last.number, Some(last.end));
    assert_eq!((journal.stock(), journal.bytes(), journal.rows()), (Stock::Plenty, 0, 0));
}

#[tokio::test]
async fn the_last_room_is_told_apart_when_answers_are_small_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let settings = JournalSettings { share: 64, max_answer: 1024, ..SETTINGS };
    let (journal, mut feed) = open(directory.path(), settings);
    feed.begin(0, Timestamp(77)).unwrap();
    while journal.stock() > Stock::Last {
        journal.keep(of("user"), Change::Answered(answer(&[1; 8 * 1024]))).await.unwrap();
    }
    assert_eq!(journal.stock(), Stock::Last);
}

#[tokio::test]
async fn a_position_beyond_the_last_row_is_damage_until_everybody_is_told() {
    let directory = tempfile::tempdir().unwrap();
    {
        let (journal, mut feed) = open(directory.path(), SETTINGS);
        feed.begin(0, Timestamp(77)).unwrap();
        assert_eq!(journal.damage(), None);
        journal.keep(of("user"), Change::Unsuspected).await.unwrap();
        drop((journal, feed));
        let (journal, mut feed) = open(directory.path(), SETTINGS);
        feed.begin(9, Timestamp(77)).unwrap();
        assert!(journal.damage().is_some());
        journal.keep(of("user"), Change::Unsuspected).await.unwrap();
        assert_eq!(feed.next().await.unwrap().number, 10, "no number of before is given again");
    }
    let (journal, mut feed) = open(directory.path(), SETTINGS);
    feed.begin(9, Timestamp(77)).unwrap();
    assert!(journal.damage().is_some(), "nobody was told");
    journal.damage_is_told();
    drop((journal, feed));
    let (journal, _feed) = open(directory.path(), SETTINGS);
    assert_eq!(journal.damage(), None);
}

#[tokio::test]
async fn a_log_that_lost_synced_rows_to_damage_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let (journal, mut feed) = open(directory.path(), SETTINGS);
    feed.begin(0, Timestamp(77)).unwrap();
    for _ in 0..5 {
        journal.keep(of("user"), Change::Answered(answer(&[1; 20_000]))).await.unwrap();
    }
    // as a process that was killed leaves it, and then a disk that fails
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let log = copy.path().join("rows.db-wal");
    let mut bytes = std::fs::read(&log).unwrap();
    let from = bytes.len() * 3 / 4;
    bytes[from..].fill(0xA5);
    std::fs::write(&log, bytes).unwrap();
    let (damaged, mut feed) = open(copy.path(), SETTINGS);
    feed.begin(1, Timestamp(77)).unwrap();
    assert_eq!(damaged.damage().unwrap().since, Some(Timestamp(77)));
    assert_eq!(feed.next().await.unwrap().number, 2, "what comes before the damage is there");
    assert_eq!(journal.damage(), None, "the undamaged one");
}

#[tokio::test]
async fn nothing_that_was_received_can_be_read_in_the_folder() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, mut feed) = open(directory.path(), SETTINGS);
    feed.begin(0, Timestamp(77)).unwrap();
    let lost = Lost {
        gap_id: GapId::from("gap"),
        cause: Cause::AnswerLost,
        certainty: Certainty::Certain,
        from: Timestamp(1),
        to: Timestamp(2),
        to_reconcile: true,
    };
    let secret = b"what-nobody-else-may-read";
    journal.keep(of("user"), Change::AnswerLost(answer(secret), lost)).await.unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(memchr::memmem::find(&bytes, secret).is_none());
        files += 1;
    }
    assert!(files >= 3);
    assert_eq!(body_of(&feed.next().await.unwrap()), secret);
}

#[tokio::test]
async fn rows_of_a_key_that_is_gone_are_waited_for_and_not_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    {
        let (journal, _feed) = open(directory.path(), SETTINGS);
        journal.keep(of("user"), Change::Answered(answer(b"one"))).await.unwrap();
    }
    let folder = loop {
        if let Ok(folder) = Folder::open(directory.path()) {
            break folder;
        }
    };
    let metrics = Arc::new(Metrics::new("test", "test").unwrap());
    let other = Arc::new(KeyRing::random().unwrap());
    let (journal, mut feed) = Journal::open(folder, other, SETTINGS, metrics).unwrap();
    feed.begin(0, Timestamp(77)).unwrap();
    assert!(feed.try_next().is_none());
    assert_eq!(journal.rows(), 1);
}
