use super::order::*;
use super::*;
use crate::simulator::names::Names;

fn ask(user: u32) -> Request {
    Request {
        kind: RequestKind::Ask,
        user: Some(user),
        live_queue: true,
        events_wait: false,
        can_repeat: false,
    }
}

#[test]
fn orders_are_used_up_one_after_the_other_and_healing_forgets_them() {
    let mut faults = Faults::new(Names::new(1));
    faults.add(Order::next(2, Fault::Forbidden), Some(5)).unwrap();
    faults.add(Order::next(1, Fault::Cut), Some(5)).unwrap();
    faults.add(Order::always(Fault::Hang), None).unwrap();
    assert_eq!(faults.draw(&ask(5), 0), Some(Fault::Forbidden));
    assert_eq!(faults.draw(&ask(6), 0), Some(Fault::Hang));
    assert_eq!(faults.draw(&ask(5), 0), Some(Fault::Forbidden));
    assert_eq!(faults.draw(&ask(5), 0), Some(Fault::Cut));
    assert_eq!(faults.draw(&ask(5), 0), Some(Fault::Hang));
    faults.heal();
    assert_eq!(faults.draw(&ask(5), 0), None);
    assert_eq!(faults.met[&FaultName::Forbidden], 2);
}

#[test]
fn a_fault_waits_for_a_request_that_it_fits() {
    let mut faults = Faults::new(Names::new(1));
    faults.add(Order::next(1, Fault::Cut).with_events(), None).unwrap();
    assert_eq!(faults.draw(&ask(1), 0), None);
    assert_eq!(faults.draw(&Request { live_queue: false, ..ask(1) }, 0), None);
    assert_eq!(faults.draw(&Request { kind: RequestKind::Subscribe, ..ask(1) }, 0), None);
    assert_eq!(faults.draw(&Request { events_wait: true, ..ask(1) }, 0), Some(Fault::Cut));
}

#[test]
fn a_share_of_the_requests_meets_a_fault_by_rate() {
    let mut faults = Faults::new(Names::new(3));
    faults.add(Order::share(0.25, Fault::Forbidden), None).unwrap();
    let met = (0..10_000).filter(|user| faults.draw(&ask(*user), 0).is_some()).count();
    assert!((2_300..2_700).contains(&met), "{met}");
}

#[test]
fn a_limit_of_rate_refuses_what_is_too_much_in_each_second() {
    let mut faults = Faults::new(Names::new(1));
    faults.add(Order::always(Fault::RateLimit { per_second: 2 }), None).unwrap();
    let mut refused = |now| faults.draw(&ask(1), now).is_some();
    assert_eq!([0, 500, 999, 999].map(&mut refused), [false, false, true, true]);
    assert_eq!([1000, 1001, 1002].map(&mut refused), [false, false, true]);
    assert!(Order::share(0.5, Fault::RateLimit { per_second: 2 }).check().is_err());
}

#[test]
fn an_order_that_cannot_be_carried_out_is_refused() {
    assert!(Order::always(Fault::ServerError { status: 404 }).check().is_err());
    assert!(Order::share(1.5, Fault::Cut).check().is_err());
    assert!(Order::always(Fault::Cut).on(RequestKind::Subscribe).check().is_err());
    assert!(Order::always(Fault::Cut).on(RequestKind::Ask).check().is_ok());
}

#[test]
fn an_order_reads_as_json() {
    let text = r#"{"user":"u","on":["ask"],"times":3,"fault":{"name":"throttle","retry_after":2}}"#;
    let order: Order = serde_json::from_str(text).unwrap();
    assert_eq!(order.fault, Fault::Throttle { retry_after: Some(2) });
    assert_eq!(order.times, Some(3));
    assert!(serde_json::from_str::<Order>(r#"{"fault":{"name":"cut"},"tims":1}"#).is_err());
}
