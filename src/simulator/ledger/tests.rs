use super::book::{MOST_KINDS, NO_KIND};
use super::*;

fn making() -> Making {
    Making { user: 0, connection: NONE, kind: 0, statuses: [None; 2], at: 5 }
}

fn sent(answer: u32, lost: bool) -> Sent {
    Sent { at: 6, answer, lost, ..Sent::default() }
}

fn fate(book: &Book, place: u32) -> Fate {
    book.records(place).next().unwrap().1.fate
}

#[test]
fn a_full_book_counts_on_and_says_that_it_is_truncated() {
    let mut book = Book::new(1);
    let kept = book.write(&making(), 0, 1, Fate::Waiting);
    assert!(!book.totals.truncated);
    let dropped = book.write(&making(), 0, 2, Fate::Waiting);
    assert_eq!((kept, dropped), (0, NONE));
    assert!(book.totals.truncated);
    book.send(kept, &sent(1, false), Fate::Waiting);
    book.send(dropped, &sent(1, false), Fate::Waiting);
    book.lose(dropped, 1, false);
    assert_eq!((book.totals.queued, book.totals.handed_out), (2, 1));
    assert_eq!(book.totals.lost_on_the_wire, 1);
}

#[test]
fn a_record_takes_44_bytes() {
    assert_eq!(size_of::<Record>(), 44);
}

#[test]
fn what_arrived_once_is_handed_out_whatever_else_happened() {
    let mut book = Book::new(9);
    let place = book.write(&making(), 0, 1, Fate::Waiting);
    let kept = Sent { kept: true, ..sent(1, true) };
    book.send(place, &kept, Fate::Waiting);
    assert_eq!(fate(&book, place), Fate::Waiting);
    book.send(place, &sent(2, false), Fate::Waiting);
    book.send(place, &sent(3, false), Fate::Waiting);
    book.lose(place, 2, true);
    assert_eq!(fate(&book, place), Fate::HandedOut);
    let lost: Vec<_> = book.hand_outs(place).iter().map(|out| (out.answer, out.lost)).collect();
    assert_eq!(lost, [(1, true), (2, true), (3, false)]);
    assert_eq!((book.totals.times_handed_out, book.totals.times_lost), (1, 2));
    book.bury(place);
    assert_eq!((book.totals.handed_out, book.totals.died_with_queue), (1, 0));
    book.lose(place, 3, false);
    assert_eq!(fate(&book, place), Fate::LostOnTheWire);
    assert_eq!((book.totals.handed_out, book.totals.lost_on_the_wire), (0, 1));
}

#[test]
fn repeats_are_kept_within_bounds() {
    let mut book = Book::new(2);
    let place = book.write(&making(), 0, 1, Fate::Waiting);
    for answer in 1..=5 {
        assert_eq!(book.totals.truncated, answer > 4);
        book.send(place, &sent(answer, false), Fate::Waiting);
    }
    assert_eq!(book.hand_outs(place).len(), 3);
    assert_eq!((book.totals.handed_out, book.totals.times_handed_out), (1, 5));
}

#[test]
fn event_types_are_bounded() {
    let mut book = Book::new(1);
    for number in 0..MOST_KINDS + 10 {
        book.kind(Some(&format!("KIND_{number}")));
    }
    assert_eq!(book.kinds.len(), MOST_KINDS + 1);
    assert_eq!(book.kind(None), NO_KIND);
}
