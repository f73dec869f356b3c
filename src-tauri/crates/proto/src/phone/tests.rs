//! Whole phones in one thread, with messages as bytes, an engine that is done at once, and all shards on every disk.

use std::collections::BTreeMap;

use rand::SeedableRng;

use super::*;
use crate::chat::{Answer, Ask, FailureReason, Prompt, Sampling};
use crate::device::{Battery, Snapshot, Thermal};
use crate::forecast::{self, ForecastError, Forecasts};
use crate::group::{Address, Name, Purpose};
use crate::pipeline::Sample;
use crate::placement::{Objective, Reason};
use crate::plan::Sizes;
use crate::planning::Rule;
use crate::profile::Costs;
use crate::profile::testing::{SNAPSHOT, profile, sample};
use crate::relay::ClientId;
use crate::standing::{PreparationStep, RunPhase};
use crate::testing::{ANNA, BELA, CARL, SIZES, manifest};
use crate::wire::{self, ActivationHeader, StreamKind};

const MODEL: ModelId = ModelId([1; 32]);
const OTHER_MODEL: ModelId = ModelId([2; 32]);
const SECOND: Duration = Duration::from_secs(1);

/// Enough for the ends and two of four shards, not for three.
const HALF: u64 = 55 << 20;

#[test]
fn every_screen_shows_how_every_phone_is_and_what_is_run() {
    let mut world = World::formed(&[ANNA, BELA, CARL]);
    world.tell(ANNA, InEvent::Models(vec![held(MODEL)]));

    world.tell(ANNA, run(even(3), MODEL));
    world.run_for(5 * SECOND);

    for phone in [ANNA, BELA, CARL] {
        let board = &world.shells[&phone].board;
        assert_eq!(board.members.len(), 3);
        assert_eq!(board.members[&ANNA].standing.models[0].model, MODEL);
        for member in board.members.values() {
            let preparation = member.standing.preparation.unwrap();
            assert_eq!(preparation.step, PreparationStep::Ready);
        }
        let run = board.run.as_ref().unwrap();
        assert_eq!((run.phase, run.started_by), (RunPhase::Ready, ANNA));
        assert_eq!(run.stages.len(), 3);
        assert_eq!(run.head, Some(ANNA));
    }
}

#[test]
fn who_asks_and_which_tokens_go_round_is_seen_by_all_and_never_a_word() {
    let mut world = World::running(&[ANNA, BELA, CARL]);

    world.tell(BELA, ask(7, 200));
    world.run_for(3 * SECOND);

    for phone in [ANNA, BELA, CARL] {
        let shell = &world.shells[&phone];
        assert!(shell.beats.iter().all(|beat| beat.asker == BELA));
        let tokens = shell.beats.iter().map(|beat| beat.tokens).sum::<u32>();
        assert_eq!(tokens, 199, "all but the first, which comes of reading");
        let asked = shell.seen_askers.iter().copied().collect::<Vec<_>>();
        assert_eq!(asked, [BELA]);
        let computed = |phone| shell.board.members[&phone].standing.layers_computed;
        assert!(computed(ANNA) > 0 && computed(BELA) > 0 && computed(CARL) > 0);
        assert_eq!(
            shell.seen_clients,
            BTreeSet::from_iter((phone == BELA).then_some(ClientId(7)))
        );
        let run = shell.board.run.as_ref().unwrap();
        assert!(run.measured.is_some() && run.questions.is_empty());
    }
}

#[test]
fn standings_cost_little() {
    let mut world = World::running(&[ANNA, BELA, CARL]);
    world.run_for(5 * SECOND);
    world.n_standings = 0;

    world.run_for(10 * SECOND);
    assert_eq!(world.n_standings, 0, "nothing has changed");

    world.tell(BELA, ask(7, 2000)); // 20 s
    world.run_for(10 * SECOND);
    // Each second everybody's share of the work, by way of the leader; five times a second tokens, to two phones.
    assert!(
        world.n_standings <= 10 * (2 + 2) + 50 * 2 + 10,
        "{}",
        world.n_standings
    );
}

#[test]
fn what_is_stopped_is_stopped_everywhere() {
    let mut world = World::running(&[ANNA, BELA, CARL]);
    world.tell(BELA, ask(7, 20_000));
    world.run_for(SECOND);
    assert_eq!(world.phones[&CARL].check_stop(), Err(Refused::NotLeader));

    assert_eq!(world.phones[&ANNA].check_stop(), Ok(()));
    world.tell(ANNA, InEvent::Stop);
    world.run_for(3 * SECOND);

    assert_eq!(
        world.shells[&BELA].last_answer,
        Some(Answer::Failed(FailureReason::Stopped))
    );
    world.assert_nothing_runs();
    world.tell(BELA, ask(8, 1));
    world.run_for(SECOND);
    assert!(matches!(
        world.shells[&BELA].last_answer,
        Some(Answer::Refused(_))
    ));

    // It can be started again.
    world.tell(ANNA, run(even(3), MODEL));
    world.run_for(5 * SECOND);
    world.assert_runs(MODEL);
}

/// As a program does that is started to run its model whenever it leads.
#[test]
fn what_a_member_would_run_if_it_led_is_stopped_too_and_not_told() {
    let mut world = World::new(&[ANNA, BELA]);
    world.tell(BELA, run(even(2), OTHER_MODEL));
    world.join(BELA, ANNA);
    world.tell(ANNA, run(even(2), MODEL));
    world.run_for(5 * SECOND);
    world.assert_runs(MODEL);
    assert_eq!(world.phones[&BELA].check_stop(), Err(Refused::NotLeader));

    world.tell(ANNA, InEvent::Stop);
    world.run_for(5 * SECOND);

    world.assert_nothing_runs();
}

#[test]
fn a_model_that_is_started_takes_the_place_of_what_is_run_whoever_leads() {
    let mut world = World::running(&[ANNA, BELA, CARL]);
    world.tell(BELA, InEvent::Models(vec![held(OTHER_MODEL)]));

    let other = Work {
        manifest: Arc::new(manifest(&[1; 6])),
        ..even(3)
    };
    world.tell(BELA, run(other, OTHER_MODEL));
    world.run_for(10 * SECOND);

    world.assert_runs(OTHER_MODEL);
    assert_eq!(world.phones[&CARL].leader, Some(BELA));
    let board = &world.shells[&CARL].board;
    assert_eq!(board.run.as_ref().unwrap().started_by, BELA);
}

#[test]
fn any_member_starts_a_model_that_another_has_and_may_stop_it() {
    let mut world = World::formed(&[ANNA, BELA, CARL]);
    world.tell(BELA, InEvent::Models(vec![held(MODEL)]));
    world.run_for(3 * SECOND);
    assert_eq!(
        world.phones[&CARL].check_run_elsewhere(OTHER_MODEL),
        Err(Refused::NobodyHasIt)
    );

    assert_eq!(world.phones[&CARL].check_run_elsewhere(MODEL), Ok(BELA));
    world.tell(CARL, InEvent::RunElsewhere(MODEL));
    world.run_for(SECOND);
    assert_eq!(world.shells[&BELA].wanted, Some((MODEL, CARL)));
    world.tell(BELA, run(even(3), MODEL));
    world.run_for(8 * SECOND);
    world.assert_runs(MODEL);

    assert_eq!(world.phones[&ANNA].check_stop(), Err(Refused::NotLeader));
    assert_eq!(world.phones[&CARL].check_stop(), Ok(()));
    world.tell(CARL, InEvent::Stop);
    world.run_for(3 * SECOND);
    world.assert_nothing_runs();
}

/// It would wait to be let lead, and then give up.
#[test]
fn a_model_is_offered_again_when_the_offer_was_lost() {
    let mut world = World::formed(&[ANNA, BELA]);
    world.tell(BELA, InEvent::Models(vec![held(MODEL)]));

    world.tell(BELA, run(even(2), MODEL));
    world.coming.clear(); // it was on its way
    world.hang_up(BELA);
    world.run_for(10 * SECOND);

    world.assert_runs(MODEL);
    assert_eq!(world.phones[&ANNA].leader, Some(BELA));
}

/// What the lost phone ran goes on with the phone that leads next, if that has the model.
#[test]
fn who_leads_next_is_asked_to_go_on_with_what_was_run() {
    let mut world = World::running(&[ANNA, BELA, CARL]);
    world.tell(CARL, InEvent::Models(vec![held(MODEL)]));
    let rank = group::Rank {
        holds_model: true,
        ..group::Rank::default()
    };
    world.tell(CARL, InEvent::Group(group::InEvent::Ranked(rank)));
    world.run_for(3 * SECOND);

    world.kill(ANNA);
    world.run_for(10 * SECOND);

    assert_eq!(world.phones[&BELA].leader, Some(CARL));
    assert_eq!(world.shells[&CARL].wanted, Some((MODEL, ANNA)));
    world.tell(CARL, run(even(2), MODEL));
    world.run_for(5 * SECOND);
    world.assert_runs(MODEL);
}

#[test]
fn a_phone_that_measures_itself_late_is_planned_for_after_all() {
    let mut world = World::formed(&[ANNA, BELA]);
    world.tell(ANNA, InEvent::Models(vec![held(MODEL)]));
    world.slow = Some((BELA, 50 * SECOND));

    world.tell(ANNA, run(best(2), MODEL));
    world.run_for(45 * SECOND);
    assert_eq!(world.n_plans, 1, "without it");
    world.run_for(15 * SECOND);

    assert_eq!(world.n_plans, 2, "with it");
    world.assert_runs(MODEL);
}

#[test]
fn whoever_leaves_their_phone_out_computes_nothing() {
    let mut world = World::running(&[ANNA, BELA, CARL]);
    let exclude = |world: &mut World, by, phone, is_excluded| {
        assert_eq!(world.phones[&by].check_exclude(phone), Ok(()));
        world.tell(by, InEvent::Exclude { phone, is_excluded });
        world.run_for(5 * SECOND);
        let stages = world.shells[&ANNA]
            .board
            .run
            .as_ref()
            .unwrap()
            .stages
            .clone();
        stages.iter().map(|stage| stage.phone).collect::<Vec<_>>()
    };

    assert_eq!(exclude(&mut world, BELA, BELA, true), [ANNA, CARL]);
    assert!(world.shells[&CARL].board.members[&BELA].is_excluded);
    assert!(
        !world.shells[&BELA].is_loaded,
        "its memory is its own again"
    );
    assert_eq!(
        world.phones[&BELA].check_exclude(CARL),
        Err(Refused::NotLeader)
    );

    assert_eq!(exclude(&mut world, ANNA, CARL, true), [ANNA]);
    assert!(world.shells[&BELA].board.members[&CARL].is_excluded);
    assert_eq!(exclude(&mut world, BELA, BELA, false), [ANNA, BELA]);
}

#[test]
fn whose_person_lets_it_work_only_while_charging_rests() {
    let mut world = World::formed(&[ANNA, BELA, CARL]);
    world.tell(ANNA, run(even(3), MODEL));
    let battery = Some(crate::device::Battery {
        percent: 90,
        charging: false,
    });
    let on_battery = crate::device::Snapshot {
        battery,
        ..SNAPSHOT
    };
    world.tell(BELA, InEvent::Device(on_battery));
    world.run_for(5 * SECOND);
    let policy = Policy {
        only_while_charging: true,
        ..Policy::default()
    };

    world.tell(BELA, InEvent::Policy(policy));
    world.run_for(5 * SECOND);

    let board = &world.shells[&ANNA].board;
    let stages = board.run.as_ref().unwrap().stages.iter();
    assert!(stages.clone().all(|stage| stage.phone != BELA));
    assert_eq!(
        board.members[&BELA].standing.tiredness(),
        Some(placement::Tiredness::NotCharging)
    );
}

/// One in whose pocket it gets hot gives half of its layers away, to whoever has room, and computes with half of its
/// threads; it does not when it is only warm.
#[test]
fn a_hot_phone_keeps_half_of_its_layers_and_of_its_threads() {
    let mut world = World::formed(&[ANNA, BELA]);
    world.budget_bytes = HALF;
    world.tell(ANNA, run(best(2), MODEL));
    world.run_for(8 * SECOND);
    assert_eq!(world.layers(), [(ANNA, 2), (BELA, 6)]);
    world.device(ANNA, |device| device.budget_bytes = HALF + (8 << 20));

    world.device(BELA, |device| device.thermal = Thermal::Fair);
    world.run_for(5 * SECOND);
    assert!(world.shells[&BELA].is_spared);
    assert_eq!(world.layers(), [(ANNA, 2), (BELA, 6)]);

    world.device(BELA, |device| device.thermal = Thermal::Serious);
    world.run_for(5 * SECOND);
    assert_eq!(world.layers(), [(ANNA, 6), (BELA, 2)]);
    world.assert_runs(MODEL);
}

/// While an answer is being written it may end; who is about to be switched off is not asked to wait for that.
#[test]
fn a_phone_that_must_rest_waits_for_the_answer_but_not_for_ever() {
    for (heat, patience) in [(Thermal::Critical, 5), (Thermal::Nominal, 30)] {
        let mut world = World::running(&[ANNA, BELA, CARL]);
        world.run_for(SECOND);
        world.tell(CARL, ask(7, 20_000));
        world.run_for(SECOND);

        world.device(BELA, |device| {
            device.thermal = heat;
            device.battery = Some(Battery {
                percent: 5,
                charging: false,
            });
        });
        world.run_for((patience - 2) * SECOND);
        assert_eq!(world.layers().len(), 3, "{heat:?}");
        assert!(!matches!(
            world.shells[&CARL].last_answer,
            Some(Answer::Failed(_))
        ));
        world.run_for(7 * SECOND);

        let phones = world.layers().into_iter().map(|(phone, _)| phone);
        assert_eq!(phones.collect::<Vec<_>>(), [ANNA, CARL], "{heat:?}");
        assert_eq!(
            world.shells[&CARL].last_answer,
            Some(Answer::Failed(FailureReason::Replanned)),
            "and the phone that asked asks again"
        );
    }
}

/// Nobody else is there who could compute: a person who asks their own phone is answered, gently.
#[test]
fn a_phone_alone_runs_a_model_with_little_battery_and_warm() {
    let mut world = World::new(&[ANNA]);
    world.device(ANNA, |device| {
        device.thermal = Thermal::Serious;
        device.battery = Some(Battery {
            percent: 5,
            charging: false,
        });
    });

    world.tell(ANNA, run(best(1), MODEL));
    world.run_for(30 * SECOND);

    world.assert_runs(MODEL);
    assert!(world.shells[&ANNA].is_spared);
}

/// No plan is possible without it: what it ran is run no more, and goes on when it is back.
#[test]
fn what_a_phone_that_must_rest_was_needed_for_stops_until_it_is_back() {
    let mut world = World::formed(&[ANNA, BELA]);
    world.budget_bytes = HALF;
    world.tell(ANNA, run(best(2), MODEL));
    world.run_for(8 * SECOND);
    let battery = |percent| {
        Some(Battery {
            percent,
            charging: false,
        })
    };
    world.device(ANNA, |device| device.budget_bytes = HALF);
    world.may_fail = true;

    world.device(BELA, |device| device.battery = battery(5));
    world.run_for(5 * SECOND);
    for phone in [ANNA, BELA] {
        let run = world.shells[&phone].board.run.as_ref().unwrap();
        assert!(matches!(
            run.phase,
            RunPhase::Failed(Trouble::TooSmall { .. })
        ));
    }
    assert!(!world.shells[&ANNA].is_loaded);

    world.device(BELA, |device| device.battery = battery(50));
    world.run_for(8 * SECOND);
    world.assert_runs(MODEL);
}

/// A timer that nobody takes would have the phone wake for ever.
#[test]
fn nobody_hurries_for_what_is_stopped() {
    let mut world = World::running(&[ANNA, BELA, CARL]);
    world.run_for(SECOND);
    world.tell(CARL, ask(7, 20_000));
    world.run_for(SECOND);
    world.device(BELA, |device| device.thermal = Thermal::Critical);
    world.run_for(2 * SECOND);

    world.tell(ANNA, InEvent::Stop);
    world.run_for(20 * SECOND);

    let wakes_at = world.phones[&ANNA].poll_timeout();
    assert!(wakes_at.is_none_or(|at| at >= world.now), "{wakes_at:?}");
}

/// Nothing new for who is low on battery; what it has it keeps as long as that is not all but empty.
#[test]
fn a_phone_with_little_battery_keeps_its_part_and_gets_none_in_the_next_plan() {
    let mut world = World::formed(&[ANNA, BELA]);
    world.device(BELA, |_| {});
    world.tell(ANNA, run(even(2), MODEL));
    world.run_for(5 * SECOND);
    let battery = |percent| {
        Some(Battery {
            percent,
            charging: false,
        })
    };

    world.device(BELA, |device| device.battery = battery(15));
    world.run_for(5 * SECOND);
    assert_eq!(world.layers().len(), 2);
    world.tell(ANNA, InEvent::Stop);
    world.run_for(2 * SECOND);
    world.tell(ANNA, run(even(2), MODEL));
    world.run_for(5 * SECOND);

    assert_eq!(world.layers(), [(ANNA, 8)]);
}

/// The work itself tells that a phone has become slow, and the plan follows; what only varies moves nothing.
#[test]
fn layers_go_from_a_phone_that_has_become_slow_to_one_that_has_not() {
    let slow = |_: u32| 5.0;
    let unsteady = |i: u32| if i.is_multiple_of(2) { 0.7 } else { 1.4 };

    for (pace, moves) in [(&slow as &dyn Fn(u32) -> f64, true), (&unsteady, false)] {
        let mut world = World::formed(&[ANNA, BELA, CARL]);
        world.budget_bytes = HALF;
        world.tell(ANNA, run(best(3), MODEL));
        world.run_for(10 * SECOND);
        let before = world.layers();
        let &[(ANNA, 2), (other, 6)] = &before[..] else {
            panic!("{before:?}");
        };
        let work = best(3);
        let weights_bytes = work.manifest.layers[1..]
            .iter()
            .map(|shard| shard.bytes)
            .sum();
        let stage = respondent::StageLayers {
            model: work.manifest.hash(),
            n_layers: 6,
            n_shards: 3,
            weights_bytes,
            chunk_tokens: SIZES.chunk_tokens,
        };
        // As the sample would have it: 1 ms for each of its layers.
        let step_s = 0.001 * weights_bytes as f64 / work.sample.layer_bytes() as f64;

        for i in 0..30 {
            for _ in 0..50 {
                let work = respondent::Work::Layers {
                    stage,
                    n_tokens: 1,
                    n_positions: 64,
                    time: SECOND.mul_f64(step_s * pace(i)),
                };
                world.tell(other, InEvent::Computed(work));
            }
            world.tell(CARL, ask(7, 200));
            world.run_for(10 * SECOND);
        }

        assert_eq!(world.layers() != before, moves, "{:?}", world.layers());
        world.assert_runs(MODEL);
    }
}

#[test]
fn a_forecast_tells_of_the_group_alone_and_without_each() {
    let mut world = World::formed(&[ANNA, BELA, CARL]);
    world.budget_bytes = HALF;

    let forecasts = world.forecast(ANNA, best(3)).unwrap();

    let forecast::Outlook::Runs {
        stages, slowest, ..
    } = &forecasts.group
    else {
        panic!("{forecasts:?}");
    };
    assert_eq!(stages.len(), 2, "two are enough");
    assert!(stages.iter().any(|stage| stage.phone == *slowest));
    assert!(matches!(forecasts.alone, forecast::Outlook::DoesNotFit(_)));
    let other = stages.iter().find(|stage| stage.phone != ANNA).unwrap();
    let [(without, outlook)] = &forecasts.without[..] else {
        panic!("{forecasts:?}");
    };
    assert_eq!(*without, other.phone);
    let forecast::Outlook::Runs { stages, .. } = outlook else {
        panic!("the third can take its place");
    };
    assert!(stages.iter().all(|stage| stage.phone != *without));
    assert_eq!(forecasts.verdicts.len(), 3);
    let runs = |verdict: &&placement::Verdict| matches!(verdict.reason, Reason::Runs { .. });
    assert_eq!(forecasts.verdicts.iter().filter(runs).count(), 2);
    assert!(
        world.shells.values().all(|shell| !shell.is_loaded),
        "nothing is moved"
    );
}

#[test]
fn a_member_that_does_not_lead_and_a_phone_alone_have_forecasts_too() {
    let mut world = World::formed(&[ANNA, BELA]);
    let forecasts = world.forecast(BELA, best(2)).unwrap();
    let forecast::Outlook::Runs {
        stages,
        fetch_bytes,
        ..
    } = &forecasts.alone
    else {
        panic!("{forecasts:?}");
    };
    assert_eq!((stages[0].phone, *fetch_bytes), (BELA, 0));

    let mut world = World::new(&[ANNA]);
    let forecasts = world.forecast(ANNA, best(1)).unwrap();
    assert_eq!(forecasts.group, forecasts.alone);
    assert!(
        matches!(forecasts.group, forecast::Outlook::Runs { .. }),
        "{forecasts:?}"
    );
}

/// Phones that are measured for another model hold up no answer, and the plan in force stays.
#[test]
fn a_forecast_waits_for_the_answer_that_is_being_written_and_disturbs_no_plan() {
    let mut world = World::running(&[ANNA, BELA, CARL]);
    let epoch = world.shells[&CARL].board.run.as_ref().unwrap().epoch;
    world.tell(CARL, ask(7, 500)); // 5 s
    world.run_for(SECOND);
    world.n_measured = 0;

    world.start_forecast(ANNA, best(3));
    world.run_for(2 * SECOND);
    assert_eq!(world.n_measured, 0);
    world.run_for(8 * SECOND);

    assert!(world.shells[&ANNA].forecast.as_ref().unwrap().is_ok());
    assert_eq!(world.n_measured, 3);
    assert!(matches!(
        world.shells[&CARL].last_answer,
        Some(Answer::Done { .. })
    ));
    let run = world.shells[&CARL].board.run.clone().unwrap();
    assert_eq!((run.epoch, run.phase), (epoch, RunPhase::Ready));

    // What is known need not be measured again.
    world.forecast(ANNA, best(3)).unwrap();
    assert_eq!(world.n_measured, 3);
}

#[test]
fn a_forecast_that_cannot_be_says_why() {
    let mut world = World::running(&[ANNA, BELA]);
    world.tell(BELA, ask(7, 20_000));
    world.run_for(SECOND);
    world.start_forecast(ANNA, best(2));
    world.start_forecast(ANNA, best(2));
    world.run_for(SECOND);
    assert_eq!(world.failed(ANNA), Some(ForecastError::Superseded));

    world.run_for(31 * SECOND);
    assert_eq!(world.failed(ANNA), Some(ForecastError::Busy));
}

/// Only the phone that has a model can say what to expect of it: another asks it.
#[test]
fn what_to_expect_of_another_phones_model_is_asked_of_that_phone() {
    let mut world = World::formed(&[ANNA, BELA, CARL]);
    world.budget_bytes = HALF;
    world.tell(BELA, InEvent::Models(vec![held(MODEL)]));
    world.run_for(3 * SECOND);

    let elsewhere = world.forecast_elsewhere(CARL, MODEL).unwrap();

    assert_eq!(elsewhere, world.forecast(BELA, best(3)).unwrap());
    assert_eq!(
        world.forecast_elsewhere(CARL, OTHER_MODEL),
        Err(ForecastError::NobodyHasIt)
    );
}

#[test]
fn who_is_asked_for_forecasts_finds_out_about_one_at_a_time() {
    let mut world = World::formed(&[ANNA, BELA, CARL]);
    world.tell(BELA, InEvent::Models(vec![held(MODEL)]));
    world.run_for(3 * SECOND);
    let elsewhere = |id| InEvent::ForecastElsewhere {
        id: ForecastId(id),
        model: MODEL,
    };

    world.tell(CARL, elsewhere(900));
    world.run_for(SECOND / 10);
    world.tell(ANNA, elsewhere(901));
    world.run_for(SECOND / 10);

    assert_eq!(world.failed(ANNA), Some(ForecastError::Occupied));
    world.run_for(10 * SECOND);
    assert!(world.shells[&CARL].forecast.as_ref().unwrap().is_ok());
    assert!(world.forecast_elsewhere(ANNA, MODEL).is_ok());
}

/// A person goes back, and looks at the same model again.
#[test]
fn who_asks_again_for_a_forecast_gets_the_one_under_way() {
    let mut world = World::formed(&[ANNA, BELA, CARL]);
    world.tell(BELA, InEvent::Models(vec![held(MODEL)]));
    world.run_for(3 * SECOND);

    for id in [900, 901] {
        let id = ForecastId(id);
        world.tell(CARL, InEvent::ForecastElsewhere { id, model: MODEL });
        world.run_for(SECOND / 10);
    }
    world.run_for(10 * SECOND);

    assert!(world.shells[&CARL].forecast.as_ref().unwrap().is_ok());
}

/// A person here comes before one on another phone, and is not disturbed by them.
#[test]
fn a_forecast_for_another_phone_ends_no_own_one() {
    let mut world = World::formed(&[ANNA, BELA, CARL]);
    world.tell(ANNA, InEvent::Models(vec![held(OTHER_MODEL)]));
    world.tell(BELA, InEvent::Models(vec![held(MODEL)]));
    world.run_for(3 * SECOND);
    let elsewhere = |id, model| InEvent::ForecastElsewhere {
        id: ForecastId(id),
        model,
    };

    world.tell(ANNA, elsewhere(900, MODEL));
    world.tell(BELA, elsewhere(901, OTHER_MODEL));
    world.run_for(12 * SECOND);
    for phone in [ANNA, BELA] {
        let found = world.shells[&phone].forecast.as_ref();
        assert!(found.unwrap().is_ok(), "{phone}: {found:?}");
    }

    let mut world = World::formed(&[ANNA, BELA, CARL]);
    world.tell(BELA, InEvent::Models(vec![held(MODEL)]));
    world.run_for(3 * SECOND);
    world.tell(CARL, elsewhere(902, MODEL));
    world.run_for(SECOND / 10);
    world.start_forecast(BELA, best(3));
    world.run_for(12 * SECOND);
    assert_eq!(world.failed(CARL), Some(ForecastError::Occupied));
}

#[test]
fn who_waits_for_a_forecast_of_a_phone_that_leaves_is_told_so() {
    let mut world = World::formed(&[ANNA, BELA, CARL]);
    world.tell(BELA, InEvent::Models(vec![held(MODEL)]));
    world.run_for(3 * SECOND);
    world.tell(
        CARL,
        InEvent::ForecastElsewhere {
            id: ForecastId(900),
            model: MODEL,
        },
    );
    world.run_for(SECOND / 10);

    world.suspend(BELA);
    world.run_for(8 * SECOND);

    assert_eq!(world.failed(CARL), Some(ForecastError::NobodyHasIt));
}

#[test]
fn a_phone_that_is_suspended_leaves_nobody_waiting_and_comes_back() {
    let mut world = World::running(&[ANNA, BELA, CARL]);
    world.tell(CARL, ask(7, 20_000));
    world.run_for(SECOND);

    world.suspend(BELA);
    world.run_for(SECOND / 10);
    assert!(matches!(
        world.shells[&CARL].last_answer,
        Some(Answer::Failed(_))
    ));
    assert!(!world.shells[&BELA].is_loaded);
    world.run_for(8 * SECOND);
    let stages = world.shells[&CARL].board.run.clone().unwrap().stages;
    assert_eq!(
        stages.iter().map(|s| s.phone).collect::<Vec<_>>(),
        [ANNA, CARL]
    );

    world.resume(BELA);
    world.run_for(15 * SECOND);
    let stages = world.shells[&BELA].board.run.clone().unwrap().stages;
    assert_eq!(stages.len(), 3);
}

/// Nobody has missed it: the same phones are there as before, and what it ran with them it runs again.
#[test]
fn a_leader_that_is_suspended_for_a_moment_runs_its_model_again() {
    let mut world = World::running(&[ANNA, BELA]);

    world.suspend(ANNA);
    world.run_for(SECOND / 2);
    assert!(!world.shells[&ANNA].is_loaded);
    world.resume(ANNA);
    world.run_for(15 * SECOND);

    world.assert_runs(MODEL);
    assert_eq!(world.layers().len(), 2);
    assert_eq!(world.phones[&BELA].leader, Some(ANNA));
}

/// From whom, to whom, and what.
type Coming = (PeerId, PeerId, InEvent<(), ()>);

/// Phones, and what is on its way between them.
struct World {
    now: Instant,
    phones: BTreeMap<PeerId, Phone<(), ()>>,
    shells: BTreeMap<PeerId, Shell>,
    connected: BTreeSet<(PeerId, PeerId)>,
    away: BTreeSet<PeerId>,
    /// What happens when, to whom; the counter keeps ties in order.
    coming: BTreeMap<(Instant, u64), Coming>,
    n_coming: u64,
    budget_bytes: u64,
    n_standings: u32,
    n_measured: u32,
    n_forecasts: u64,
    n_plans: u32,
    /// Whether there may be no plan.
    may_fail: bool,
    /// A phone that measures itself slowly, and how slowly.
    slow: Option<(PeerId, Duration)>,
}

/// What a phone has shown and done.
#[derive(Default)]
struct Shell {
    board: Board,
    beats: Vec<Beat>,
    seen_askers: BTreeSet<PeerId>,
    seen_clients: BTreeSet<ClientId>,
    is_loaded: bool,
    is_spared: bool,
    last_answer: Option<Answer>,
    wanted: Option<(ModelId, PeerId)>,
    forecast: Option<Result<Forecasts, ForecastError>>,
    /// Who wants to know what to expect of which model.
    asked: Option<(PeerId, ModelId)>,
}

impl World {
    fn new(ids: &[PeerId]) -> Self {
        let now = Instant::now();
        let phone = |&id: &PeerId| {
            let rng = ChaCha12Rng::seed_from_u64(id.0[0].into());
            let name = Name::tidy("somebody");
            (id, Phone::new(id, name, Saved::default(), rng, now))
        };
        let mut world = Self {
            now,
            phones: ids.iter().map(phone).collect(),
            shells: ids.iter().map(|&id| (id, Shell::default())).collect(),
            connected: BTreeSet::new(),
            away: BTreeSet::new(),
            coming: BTreeMap::new(),
            n_coming: 0,
            budget_bytes: SNAPSHOT.budget_bytes,
            n_standings: 0,
            n_measured: 0,
            n_forecasts: 0,
            n_plans: 0,
            may_fail: false,
            slow: None,
        };

        for &id in ids {
            let address = Address::new(&id.0).unwrap();
            let addresses = [address].into_iter().collect();
            world.tell(id, InEvent::Group(group::InEvent::Readdressed(addresses)));
        }
        world
    }

    /// A group in which the first leads.
    fn formed(ids: &[PeerId]) -> Self {
        let mut world = Self::new(ids);
        for &id in &ids[1..] {
            world.join(id, ids[0]);
        }

        for id in ids {
            assert_eq!(world.phones[id].leader, Some(ids[0]));
            assert_eq!(world.phones[id].members().len(), ids.len() - 1);
        }
        world
    }

    fn join(&mut self, newcomer: PeerId, host: PeerId) {
        let ask = group::Command::Ask {
            peer: host,
            purpose: Purpose::Join,
        };
        self.tell(newcomer, InEvent::Group(group::InEvent::Command(ask)));

        self.run_for(5 * SECOND);
    }

    /// The same, with a model evenly on all, which the first has.
    fn running(ids: &[PeerId]) -> Self {
        let mut world = Self::formed(ids);
        world.tell(ids[0], InEvent::Models(vec![held(MODEL)]));
        world.tell(ids[0], run(even(ids.len()), MODEL));
        world.run_for(5 * SECOND);

        world.assert_runs(MODEL);
        world
    }

    fn tell(&mut self, to: PeerId, event: InEvent<(), ()>) {
        self.phones.get_mut(&to).unwrap().handle(event, self.now);
        self.act(to);
    }

    /// The phone is otherwise than [`SNAPSHOT`].
    fn device(&mut self, phone: PeerId, change: impl FnOnce(&mut Snapshot)) {
        let mut device = SNAPSHOT;
        change(&mut device);

        self.tell(phone, InEvent::Device(device));
    }

    /// How many layers each phone of the ring runs, as the first one shows.
    fn layers(&self) -> Vec<(PeerId, u32)> {
        let run = self.shells[&ANNA]
            .board
            .run
            .as_ref()
            .expect("something is run");
        let stages = run.stages.iter();

        stages
            .map(|stage| (stage.phone, stage.layers.1 - stage.layers.0))
            .collect()
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;

        loop {
            let timeouts = self.phones.iter().filter(|(id, _)| !self.away.contains(id));
            let timeout = timeouts.filter_map(|(_, phone)| phone.poll_timeout()).min();
            let coming = self.coming.first_key_value().map(|((at, _), _)| *at);
            let next = timeout.into_iter().chain(coming).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if coming == Some(next) {
                let (_, (_, to, event)) = self.coming.pop_first().unwrap();
                if !self.away.contains(&to) {
                    self.tell(to, event);
                }
                continue;
            }
            for id in self.phones.keys().copied().collect::<Vec<_>>() {
                if !self.away.contains(&id) {
                    self.phones.get_mut(&id).unwrap().handle_timeout(self.now);
                    self.act(id);
                }
            }
        }
        self.now = end;
    }

    fn start_forecast(&mut self, by: PeerId, work: Work) {
        self.find_out(by, work, true);
    }

    fn find_out(&mut self, by: PeerId, work: Work, is_own: bool) {
        let id = ForecastId(self.n_forecasts);
        self.n_forecasts += 1;
        let work = Box::new(work);
        self.tell(by, InEvent::Forecast { id, work, is_own });
    }

    fn forecast_elsewhere(
        &mut self,
        by: PeerId,
        model: ModelId,
    ) -> Result<Forecasts, ForecastError> {
        let id = ForecastId(self.n_forecasts);
        self.n_forecasts += 1;
        self.tell(by, InEvent::ForecastElsewhere { id, model });
        self.run_for(10 * SECOND);

        let forecast = self.shells.get_mut(&by).unwrap().forecast.take();
        forecast.expect("it comes to an end")
    }

    fn forecast(&mut self, by: PeerId, work: Work) -> Result<Forecasts, ForecastError> {
        self.start_forecast(by, work);
        self.run_for(20 * SECOND);

        let shell = self.shells.get_mut(&by).unwrap();
        shell.forecast.take().expect("it comes to an end")
    }

    fn failed(&mut self, by: PeerId) -> Option<ForecastError> {
        let shell = self.shells.get_mut(&by).unwrap();

        shell.forecast.take()?.err()
    }

    /// The phone is gone, and everybody's connection to it.
    fn kill(&mut self, id: PeerId) {
        self.away.insert(id);
        self.hang_up(id);
        self.shells.remove(&id);
    }

    fn suspend(&mut self, id: PeerId) {
        self.tell(id, InEvent::Suspended);
        self.hang_up(id);
        self.run_for(Duration::from_millis(10));
        self.away.insert(id);
    }

    fn resume(&mut self, id: PeerId) {
        self.away.remove(&id);
        self.phones.get_mut(&id).unwrap().handle_timeout(self.now);
        self.act(id);
    }

    fn hang_up(&mut self, id: PeerId) {
        for other in self.phones.keys().copied().collect::<Vec<_>>() {
            if self.connected.remove(&pair(id, other)) {
                let gone = |phone| InEvent::Group(group::InEvent::Disconnected(phone));
                self.send(other, id, gone(other));
                self.send(id, other, gone(id));
            }
        }
    }

    /// Everybody who is there says that this model is in force.
    fn assert_runs(&self, model: ModelId) {
        for (id, shell) in &self.shells {
            let run = shell.board.run.as_ref();
            let found = run.map(|run| (run.model, run.phase));
            assert_eq!(found, Some((Some(model), RunPhase::Ready)), "{id}");
        }
    }

    fn assert_nothing_runs(&self) {
        for (id, shell) in &self.shells {
            assert_eq!(shell.board.run, None, "{id}");
            assert!(!shell.is_loaded, "{id}");
            assert!(self.phones[id].plan_in_force().is_none(), "{id}");
            let members = shell.board.members.values();
            assert!(members.clone().all(|m| m.standing.preparation.is_none()));
        }
    }

    fn send(&mut self, from: PeerId, to: PeerId, event: InEvent<(), ()>) {
        self.after(Duration::from_millis(1), from, to, event);
    }

    fn after(&mut self, time: Duration, from: PeerId, to: PeerId, event: InEvent<(), ()>) {
        let key = (self.now + time, self.n_coming);
        self.n_coming += 1;
        self.coming.insert(key, (from, to, event));
    }

    fn act(&mut self, me: PeerId) {
        while let Some(event) = self.phones.get_mut(&me).unwrap().poll() {
            match event {
                OutEvent::Group(event) => self.act_group(me, event),
                OutEvent::Ring(event) => self.act_ring(me, event),
                OutEvent::Supply(supply::OutEvent::Transfer(transfer::OutEvent::Open(shard))) => {
                    let here = transfer::InEvent::Finished(shard);
                    self.send(me, me, InEvent::Shards(here));
                }
                OutEvent::Supply(_) | OutEvent::Reviewed(_) => {}
                OutEvent::Planned(_) => self.n_plans += 1,
                OutEvent::Measure(event) => self.act_measure(me, event),
                OutEvent::CannotPlan { .. } if self.may_fail => {}
                OutEvent::CannotPlan { reason, .. } => panic!("{me}: {reason}"),
                OutEvent::Show(board) => self.show(me, *board),
                OutEvent::Beat(beat) => self.shell(me, |shell| shell.beats.push(beat)),
                OutEvent::RunWanted { model, by } => {
                    self.shell(me, |shell| shell.wanted = Some((model, by)));
                }
                OutEvent::Spare(is_spared) => self.shell(me, |shell| shell.is_spared = is_spared),
                OutEvent::ForecastWanted { model, by } => {
                    self.shell(me, |shell| shell.asked = Some((by, model)));
                    self.find_out(me, best(3), false);
                }
                OutEvent::Forecast { news, .. } => {
                    let result = match news {
                        News::Measuring { .. } => continue,
                        News::Known(known) => Ok(known.forecasts()),
                        News::Told(forecasts) => Ok(*forecasts),
                        News::Failed(error) => Err(error),
                    };
                    self.found_out(me, result);
                }
            }
        }
    }

    /// A phone has found out what to expect: for itself, or for another.
    fn found_out(&mut self, me: PeerId, result: Result<Forecasts, ForecastError>) {
        let asked = self.shells.get_mut(&me).and_then(|s| s.asked.take());
        let Some((to, model)) = asked else {
            return self.shell(me, |shell| shell.forecast = Some(result));
        };

        let reply = match result {
            Ok(forecasts) => forecast::Reply::Done(Box::new(forecasts)),
            Err(error) => forecast::Reply::Failed(error),
        };
        self.send(me, me, InEvent::ForecastTold { to, model, reply });
    }

    fn shell(&mut self, me: PeerId, change: impl FnOnce(&mut Shell)) {
        if let Some(shell) = self.shells.get_mut(&me) {
            change(shell);
        }
    }

    fn show(&mut self, me: PeerId, board: Board) {
        let questions = board.run.iter().flat_map(|run| run.questions.iter());
        let askers = questions.map(|question| question.asker).collect::<Vec<_>>();

        self.shell(me, |shell| {
            shell.seen_askers.extend(askers);
            shell.seen_clients.extend(board.asked_here.values());
            shell.board = board;
        });
    }

    fn act_group(&mut self, me: PeerId, event: group::OutEvent) {
        match event {
            group::OutEvent::Send { to, message } if self.connected.contains(&pair(me, to)) => {
                let from = me;
                self.send(
                    me,
                    to,
                    InEvent::Group(group::InEvent::Received { from, message }),
                );
            }
            group::OutEvent::Dial { peer, .. } => self.connect(me, peer),
            group::OutEvent::Match { peer, .. } => {
                let yes = group::Command::Confirm(peer);
                self.send(me, me, InEvent::Group(group::InEvent::Command(yes)));
            }
            group::OutEvent::Refused(error) => panic!("{me}: {error}"),
            _ => {}
        }
    }

    fn connect(&mut self, me: PeerId, other: PeerId) {
        if self.away.contains(&other) || self.away.contains(&me) {
            return;
        }
        self.connected.insert(pair(me, other));

        let there = |phone| InEvent::Group(group::InEvent::Connected(phone));
        self.send(me, me, there(other));
        self.send(me, other, there(me));
    }

    fn act_ring(&mut self, me: PeerId, event: ring::OutEvent<()>) {
        use ring::OutEvent as Wish;

        let from = me;
        let done = match event {
            Wish::SendControl { to, message } => {
                self.n_standings += u32::from(matches!(message, Control::Standing(_)));
                let message = over_the_wire(&message, StreamKind::Control);
                let event = ring::InEvent::Control { from, message };
                return self.send_member(me, to, InEvent::Ring(event));
            }
            Wish::SendChat { to, message } => {
                let message = over_the_wire(&message, StreamKind::Chat);
                let event = ring::InEvent::Chat { from, message };
                return self.send_member(me, to, InEvent::Ring(event));
            }
            Wish::SendActivation {
                to,
                epoch,
                step,
                hidden,
            } => {
                let event = ring::InEvent::Activation {
                    from,
                    epoch,
                    step,
                    hidden,
                };
                return self.send_member(me, to, InEvent::Ring(event));
            }
            Wish::Load { plan, .. } => {
                self.shell(me, |shell| shell.is_loaded = true);
                ring::InEvent::Loaded { epoch: plan.epoch }
            }
            Wish::Unload => return self.shell(me, |shell| shell.is_loaded = false),
            Wish::Answered(_) => unreachable!("the phone keeps these to itself"),
            Wish::Open { request, .. } => ring::InEvent::Opened {
                request,
                prompt: vec![1, 2, 3],
            },
            Wish::Embed { step, .. } => ring::InEvent::Embedded { step, hidden: () },
            Wish::Compute { step, .. } => ring::InEvent::Computed {
                step: step.id,
                hidden: (),
            },
            Wish::Sample { step, picks, .. } => {
                let samples = vec![Sample::default(); picks.len()];
                ring::InEvent::Sampled { step, samples }
            }
            Wish::Tell { answer, .. } => {
                return self.shell(me, |shell| shell.last_answer = Some(answer));
            }
            Wish::Close { .. } | Wish::Notice(_) => return,
        };
        self.send(me, me, InEvent::Ring(done));
    }

    /// To whom there is no connection, there is one first.
    fn send_member(&mut self, me: PeerId, to: PeerId, event: InEvent<(), ()>) {
        if !self.connected.contains(&pair(me, to)) {
            self.connect(me, to);
        }
        if self.connected.contains(&pair(me, to)) {
            self.send(me, to, event);
        }
    }

    fn act_measure(&mut self, me: PeerId, event: respondent::OutEvent) {
        match event {
            respondent::OutEvent::Measure(sample) => {
                self.n_measured += 1;
                let measured = respondent::InEvent::Measured {
                    profile: Box::new(profile::Profile {
                        sample: sample.hash(),
                        ..profile(0.001)
                    }),
                    snapshot: crate::device::Snapshot {
                        budget_bytes: self.budget_bytes,
                        ..SNAPSHOT
                    },
                };
                let slow = self.slow.filter(|&(slow, _)| slow == me);
                let takes = slow.map_or(SECOND, |(_, takes)| takes);
                self.after(takes, me, me, InEvent::Measured(measured));
            }
            respondent::OutEvent::SendBurst {
                to,
                frame,
                n_frames,
                n_numbers,
                activation,
            } => {
                for i in 0..n_frames {
                    let more = i + 1 < n_frames;
                    let frame = BurstFrame { more, ..frame };
                    let ActivationHeader { epoch, step, .. } = frame.header(n_numbers, activation);
                    let event = ring::InEvent::Activation {
                        from: me,
                        epoch,
                        step,
                        hidden: (),
                    };
                    self.send_member(me, to, InEvent::Ring(event));
                }
            }
            respondent::OutEvent::Send { .. } => unreachable!("the phone sends these itself"),
        }
    }
}

fn pair(a: PeerId, b: PeerId) -> (PeerId, PeerId) {
    (a.min(b), a.max(b))
}

fn over_the_wire<T>(message: &T, kind: StreamKind) -> T
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    let frame = wire::encode_frame(message, kind);

    wire::decode(&frame[wire::LENGTH_BYTES..]).unwrap()
}

fn held(model: ModelId) -> HeldModel {
    HeldModel {
        model,
        name: Name::tidy("a model"),
    }
}

fn run(work: Work, model: ModelId) -> InEvent<(), ()> {
    InEvent::Run {
        work: Box::new(work),
        model: Some(model),
    }
}

fn even(n_phones: usize) -> Work {
    Work {
        rule: Rule::Even,
        sizes: Sizes {
            n_ctx: 30_000,
            ..SIZES
        },
        ..best(n_phones)
    }
}

fn best(n_phones: usize) -> Work {
    Work {
        manifest: Arc::new(manifest(&[2; 4])),
        sample: Arc::new(sample()),
        sizes: SIZES,
        n_phones,
        rule: Rule::Best(Objective::Latency),
        prompt_tokens: 64,
        costs: Costs {
            context_bytes: 6 << 20,
            scratch_bytes: 20 << 20,
        },
        flash_quota_bytes: 0,
    }
}

fn ask(client: u64, max_tokens: u32) -> InEvent<(), ()> {
    InEvent::Ring(ring::InEvent::Ask {
        client: ClientId(client),
        ask: Arc::new(Ask {
            prompt: Prompt::Tokens(vec![1, 2, 3]),
            max_tokens,
            sampling: Sampling::default(),
            stop: Vec::new(),
            ignore_end: true,
            written: Vec::new(),
        }),
    })
}
