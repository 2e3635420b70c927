//! Legal and illegal journals.

use super::*;
use protocol::{Loss, Point};

fn state(events: &[Event]) -> State {
    let mut state = State::new(RetryLimits {
        attempts: 2,
        lost: 1,
        points_per_job: None,
    });
    state.apply(&created()).unwrap();
    for event in events {
        state.apply(event).unwrap();
    }
    state
}

fn created() -> Event {
    Event::Created {
        task: "1".into(),
        digest: String::new(),
    }
}

fn iteration(number: u32, ids: &[u32]) -> Event {
    let points = ids
        .iter()
        .map(|id| NewPoint {
            id: PointId(*id),
            segment: None,
            point: Point::default(),
        })
        .collect();
    Event::Iteration {
        number,
        asked: 2,
        points,
    }
}

fn intent(point: u32, attempt: u32, job: u32) -> Event {
    Event::Intent {
        point: PointId(point),
        attempt,
        job,
        boot_id: String::new(),
        slot: None,
    }
}

fn ended(point: u32, attempt: u32, end: AttemptEnd) -> Event {
    Event::AttemptEnded {
        point: PointId(point),
        attempt,
        end,
        seconds: 1.0,
        time: 2.0,
    }
}

fn done(loss: f64) -> AttemptEnd {
    let loss = Loss::new(loss).unwrap();
    AttemptEnd::Done {
        loss,
        losses: Vec::new(),
        message: None,
        metrics: None,
        metadata: false,
    }
}

fn failed() -> AttemptEnd {
    AttemptEnd::Failed {
        reason: "exit code 1".into(),
    }
}

fn refusal(events: &[Event], last: &Event) -> String {
    let mut state = state(events);
    let before = format!("{state:?}");
    let message = state.apply(last).unwrap_err().to_string();
    assert_eq!(format!("{state:?}"), before, "a refused event must change nothing");
    message
}

#[test]
fn a_point_is_given_up_after_its_attempts_and_reopened_on_demand() {
    let mut state = state(&[
        iteration(1, &[1, 2]),
        intent(1, 1, 1),
        ended(1, 1, failed()),
        intent(1, 2, 2),
        ended(1, 2, failed()),
    ]);
    assert_eq!(state.points[0].word(), "failed");
    assert_eq!(state.segments[&None].open, 1);
    state.apply(&Event::Reopened { time: 0.0 }).unwrap();
    assert_eq!(state.points[0].word(), "pending");
    assert_eq!(state.segments[&None].open, 2);
    state.apply(&intent(1, 3, 3)).unwrap();
}

#[test]
fn losses_have_their_own_limit_and_stops_count_nothing() {
    let lost = || AttemptEnd::Lost { reason: "gone".into() };
    let mut events = vec![iteration(1, &[1])];
    for attempt in 1..=5 {
        events.push(intent(1, attempt, attempt));
        events.push(ended(1, attempt, AttemptEnd::Stopped));
    }
    events.extend([intent(1, 6, 6), ended(1, 6, lost()), intent(1, 7, 7)]);
    let mut state = state(&events);
    assert_eq!(state.points[0].word(), "running");
    state.apply(&ended(1, 7, lost())).unwrap();
    assert_eq!(state.points[0].outcome, PointOutcome::Failed { by_payload: false });
}

#[test]
fn the_ranking_is_by_loss_then_by_id() {
    let mut events = vec![iteration(1, &[1, 2, 3])];
    for (id, loss) in [(1, 0.5), (2, 0.0), (3, 0.5)] {
        events.extend([intent(id, 1, id), ended(id, 1, done(loss))]);
    }
    assert_eq!(state(&events).best().map(|point| point.id.0), Some(2));
    assert_eq!(state(&events).done, 3);
    let ranking: Vec<u32> = state(&events).ranking().iter().map(|point| point.id.0).collect();
    assert_eq!(ranking, [2, 1, 3]);
}

#[test]
fn a_job_takes_further_points_only_after_a_good_end() {
    let events = [iteration(1, &[1, 2]), intent(1, 1, 1), ended(1, 1, done(0.0))];
    let mut good = state(&events);
    good.apply(&intent(2, 1, 1)).unwrap();
    assert_eq!(good.points[1].attempts[0].index_in_job, 1);
    let events = [iteration(1, &[1, 2]), intent(1, 1, 1), ended(1, 1, failed())];
    assert_eq!(
        refusal(&events, &intent(2, 1, 1)),
        "illegal event: point 2 attempt 1 joins evaluation job 1, which cannot take it"
    );
}

#[test]
fn events_that_cannot_follow_are_refused() {
    let running = [iteration(1, &[1, 2]), intent(1, 1, 1)];
    let end = Event::Ended {
        end: TaskEnd::Killed,
        time: 0.0,
    };
    let cases = [
        (
            refusal(&[], &created()),
            "`created` must be the first event and only that",
        ),
        (
            refusal(&running, &iteration(3, &[3])),
            "iteration 3 follows iteration 1",
        ),
        (refusal(&running, &iteration(2, &[4])), "point 4 where point 3 is due"),
        (
            refusal(&running, &intent(1, 2, 2)),
            "point 1 attempt 2 starts while the point is running",
        ),
        (
            refusal(&running, &intent(2, 2, 2)),
            "point 2 attempt 2 follows attempt 0",
        ),
        (
            refusal(&running, &intent(3, 1, 2)),
            "point 3 attempt 1 of a point that does not exist",
        ),
        (
            refusal(&running, &intent(2, 1, 3)),
            "point 2 attempt 1 opens evaluation job 3 after 1",
        ),
        (
            refusal(&running, &ended(2, 1, done(1.0))),
            "point 2 attempt 1 ends although it is not running",
        ),
        (
            refusal(&running, &end),
            "the task ends while point 1 attempt 1 is running",
        ),
        (
            refusal(&[iteration(1, &[1]), end.clone()], &intent(1, 1, 1)),
            "something happens after the end of the task",
        ),
        (
            refusal(
                &running,
                &Event::SteeringFailed {
                    number: 1,
                    reason: String::new(),
                },
            ),
            "steering failure of iteration 1 after 1",
        ),
    ];
    for (message, expected) in cases {
        assert_eq!(message, format!("illegal event: {expected}"));
    }
}

#[test]
fn every_event_reads_back_from_its_json() {
    let events = [
        created(),
        iteration(1, &[1, 2]),
        intent(1, 1, 1),
        ended(1, 1, done(0.25)),
        ended(1, 1, failed()),
        ended(1, 1, AttemptEnd::Stopped),
        Event::Ended {
            end: TaskEnd::Finished { reason: "x".into() },
            time: 1.5,
        },
        Event::Reopened { time: 2.5 },
    ];
    for event in events {
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event, "{text}");
    }
}
