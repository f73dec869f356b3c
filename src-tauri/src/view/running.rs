//! What the group runs, and how its members are, as screens have it.

use proto::PeerId;
use proto::device::{Relief, Snapshot, Thermal};
use proto::placement::Tiredness as Rest;
use proto::standing::{
    Board, MemberStanding, Preparation, PreparationStep as Step, Question, QuestionStage as Stage,
    Run as Running, RunPhase as Phase, RunStage, Speed as Pace, Trouble,
};

use super::ids::{model_id, phone_id};
use crate::api;
use crate::api::{
    Device, Heat, Member, MessageId, ModelId, Notice, PhonePreparation, PreparationStep, Problem,
    QuestionStage, QueuedQuestion, RebalanceReason, Run, RunPhase, ShardSource, Speed, Tiredness,
};

/// Adds to a member what it says of itself.
pub fn add_standing(member: &mut Member, known: &MemberStanding) {
    let standing = &known.standing;
    member.excluded = known.is_excluded;
    member.tired = standing.tiredness().and_then(tiredness);
    member.layers_per_s = standing.layers_per_s.map(f64::from);
    member.layers_computed = standing.layers_computed;
    member.rtt_ms = known.rtt.map(|rtt| rtt.as_secs_f64() * 1e3);

    if let Some(snapshot) = &standing.device {
        let device = device_of(snapshot);
        member.free_memory_bytes = device.free_memory_bytes;
        member.total_memory_bytes = device.total_memory_bytes;
        member.battery = device.battery;
        member.charging = device.charging;
        member.heat = device.heat;
    }
}

/// Returns how a phone is.
pub fn device_of(snapshot: &Snapshot) -> Device {
    let battery = snapshot.battery;

    Device {
        free_memory_bytes: snapshot.free_bytes,
        memory_budget_bytes: snapshot.budget_bytes,
        total_memory_bytes: snapshot.total_bytes,
        battery: battery.map(|battery| f64::from(battery.percent.min(100)) / 100.0),
        charging: battery.is_none_or(|battery| battery.charging),
        heat: heat(snapshot.thermal),
        power_save: snapshot.power_save,
        metered: snapshot.is_metered,
    }
}

/// Returns what is run. `ids` names the answers of this phone's own questions, by their number.
pub fn run_of(
    board: &Board,
    reason: impl FnOnce() -> Notice,
    ids: impl Fn(PeerId, u64) -> MessageId,
) -> Option<Run> {
    let run = board.run.as_ref()?;
    let model = run.model.map_or_else(|| ModelId(String::new()), model_id);

    Some(Run {
        model_name: run.name.to_string(),
        model,
        n_layers: run.n_layers,
        phase: phase_of(board, run, reason),
        stages: stages(run).iter().map(stage_of).collect(),
        head: run.head.map(phone_id),
        forecast: run.forecast.map(speed_of),
        measured: run.measured.map(speed_of),
        queue: run
            .questions
            .iter()
            .map(|question| QueuedQuestion {
                answer: ids(question.asker, question.number),
                asker: phone_id(question.asker),
                stage: question_stage(question),
            })
            .collect(),
    })
}

/// Returns what a person should be told of a change of what is run.
pub fn notice_of(before: Option<&Running>, after: Option<&Running>) -> Option<Notice> {
    let after = after?;
    let same = before.filter(|before| before.model == after.model);
    let was = same.map(|before| before.phase);
    let phones = u32::try_from(stages(after).len()).unwrap_or(u32::MAX);

    match (was, after.phase) {
        (was, phase) if was == Some(phase) => None,
        // Who comes to a group that runs something sees it; nobody has to say so.
        (None, Phase::Ready) => None,
        (Some(Phase::Preparing { again: true } | Phase::Failed(_)), Phase::Ready) => {
            Some(match phones {
                0 | 1 => Notice::ContinuingAlone,
                phones => Notice::Continuing { phones },
            })
        }
        (_, Phase::Ready) => Some(Notice::ModelReady {
            model: after.name.to_string(),
            phones,
        }),
        (Some(_), Phase::Failed(Trouble::TooSmall { missing_bytes })) => {
            Some(Notice::TooSmall { missing_bytes })
        }
        (_, Phase::Measuring | Phase::Preparing { .. } | Phase::Failed(_)) => None,
    }
}

/// Returns because of which phone the work is shared out otherwise, if it is while everybody stays, and what is with it.
pub fn rebalanced(before: &Board, after: &Board) -> Option<(PeerId, RebalanceReason)> {
    let (was, is) = (before.run.as_ref()?, after.run.as_ref()?);
    let is_planned_anew = was.phase == Phase::Ready
        && is.phase == (Phase::Preparing { again: true })
        && was.model == is.model;
    if !is_planned_anew {
        return None;
    }

    let mut fewer = Vec::new();
    for stage in &*was.stages {
        let (before, now) = (n_layers(was, stage.phone), n_layers(is, stage.phone));
        if now < before {
            let member = after.members.get(&stage.phone)?; // who left was the reason
            fewer.push((stage.phone, before - now, member));
        }
    }
    let asked = fewer
        .iter()
        .find_map(|&(phone, _, member)| Some((phone, wish_of(member)?)));
    let mut newcomers = is
        .stages
        .iter()
        .filter(|stage| n_layers(was, stage.phone) == 0);
    let newcomer = newcomers
        .next()
        .map(|stage| (stage.phone, RebalanceReason::Newcomer));
    let slow = fewer.iter().max_by_key(|(_, n_fewer, _)| *n_fewer);

    asked
        .or(newcomer)
        .or(slow.map(|&(phone, ..)| (phone, RebalanceReason::Slow)))
}

fn n_layers(run: &Running, phone: PeerId) -> u32 {
    let stage = run.stages.iter().find(|stage| stage.phone == phone);

    stage.map_or(0, |stage| stage.layers.1.saturating_sub(stage.layers.0))
}

/// Returns why a phone wants less to do, or its person does.
fn wish_of(member: &MemberStanding) -> Option<RebalanceReason> {
    if member.is_excluded {
        return Some(RebalanceReason::LeftOut);
    }

    let device = member.standing.device?;
    match (device.relief, device.tiredness()) {
        (Relief::AtMost { is_hot: true, .. }, _) => Some(RebalanceReason::Hot),
        (Relief::AtMost { is_hot: false, .. }, _) => Some(RebalanceReason::LowMemory),
        (_, Some(Rest::Hot)) => Some(RebalanceReason::Hot),
        (_, Some(Rest::LowBattery)) => Some(RebalanceReason::LowBattery),
        (_, Some(Rest::NotCharging | Rest::Metered)) => Some(RebalanceReason::LeftOut),
        (_, Some(Rest::Unmeasured | Rest::Failed) | None) => None,
    }
}

/// Returns what is wrong with a run.
pub fn problem_of(trouble: Trouble) -> Problem {
    match trouble {
        Trouble::TooSmall { missing_bytes } => Problem::MemoryShort { missing_bytes },
        Trouble::CutOff => Problem::Isolated,
        Trouble::PhoneLost { .. } => Problem::PhonesGone { phones: 1 },
        Trouble::NotHandedOver => Problem::NotLeader,
        Trouble::CannotLoad { .. } => Problem::CannotLoad,
        Trouble::Other => Problem::NoPlan,
    }
}

fn phase_of(board: &Board, run: &Running, reason: impl FnOnce() -> Notice) -> RunPhase {
    match run.phase {
        Phase::Measuring => RunPhase::Preparing { phones: Vec::new() },
        Phase::Preparing { again: false } => RunPhase::Preparing {
            phones: preparations(board, run),
        },
        Phase::Preparing { again: true } | Phase::Failed(Trouble::PhoneLost { .. }) => {
            RunPhase::Reconfiguring { reason: reason() }
        }
        Phase::Ready => RunPhase::Ready,
        Phase::Failed(trouble) => RunPhase::Failed {
            problem: problem_of(trouble),
        },
    }
}

fn preparations(board: &Board, run: &Running) -> Vec<PhonePreparation> {
    let phones = stages(run).into_iter().map(|stage| {
        let known = board.members.get(&stage.phone);
        let preparation = known.and_then(|member| member.standing.preparation);
        preparation_of(stage.phone, preparation)
    });

    phones.collect()
}

fn preparation_of(phone: PeerId, preparation: Option<Preparation>) -> PhonePreparation {
    let waiting = Preparation {
        step: Step::Waiting,
        done_bytes: 0,
        total_bytes: 0,
        rate_bytes_per_s: 0,
        left_s: None,
        source: None,
    };
    let preparation = preparation.unwrap_or(waiting);

    PhonePreparation {
        phone: phone_id(phone),
        step: match preparation.step {
            Step::Waiting => PreparationStep::Waiting,
            Step::Fetching => PreparationStep::Fetching,
            Step::Checking => PreparationStep::Checking,
            Step::Loading => PreparationStep::Loading,
            Step::Ready => PreparationStep::Ready,
        },
        done_bytes: preparation.done_bytes,
        total_bytes: preparation.total_bytes,
        rate_bytes_s: preparation.rate_bytes_per_s as f64,
        left_s: preparation.left_s.map(f64::from),
        source: match preparation.source {
            None => ShardSource::OwnStorage,
            Some(phone) => ShardSource::Phone {
                phone: phone_id(phone),
            },
        },
    }
}

/// Returns who computes, in ring order, beginning with the head, even if that holds only the ends.
pub fn stages(run: &Running) -> Vec<RunStage> {
    let mut stages = run.stages.to_vec();
    let Some(head) = run.head else {
        return stages;
    };

    match stages.iter().position(|stage| stage.phone == head) {
        Some(at) => stages.rotate_left(at),
        None => stages.insert(
            0,
            RunStage {
                phone: head,
                layers: (0, 0),
                ms_per_token: None,
            },
        ),
    }
    stages
}

fn stage_of(stage: &RunStage) -> api::Stage {
    api::Stage {
        phone: phone_id(stage.phone),
        layers: [stage.layers.0, stage.layers.1],
        ms_per_token: stage.ms_per_token.map(f64::from),
    }
}

fn speed_of(pace: Pace) -> Speed {
    let tpot_s = f64::from(pace.tpot_s);

    Speed {
        ttft_s: f64::from(pace.ttft_s),
        tokens_per_s: if tpot_s > 0.0 { 1.0 / tpot_s } else { 0.0 },
    }
}

fn question_stage(question: &Question) -> QuestionStage {
    match question.stage {
        Stage::Waiting { ahead } => QuestionStage::Waiting { ahead },
        Stage::Reading { done, total } => QuestionStage::Reading { done, total },
        Stage::Writing { tokens } => QuestionStage::Writing { tokens },
    }
}

/// Returns why a phone rests; `None` if it does not, and only was not measured.
pub fn tiredness(rest: Rest) -> Option<Tiredness> {
    match rest {
        Rest::Hot => Some(Tiredness::Hot),
        Rest::LowBattery => Some(Tiredness::LowBattery),
        Rest::NotCharging => Some(Tiredness::NotCharging),
        Rest::Metered => Some(Tiredness::Metered),
        Rest::Failed => Some(Tiredness::Failed),
        Rest::Unmeasured => None,
    }
}

fn heat(thermal: Thermal) -> Heat {
    match thermal {
        Thermal::Nominal => Heat::Cool,
        Thermal::Fair => Heat::Warm,
        Thermal::Serious | Thermal::Critical => Heat::Hot,
    }
}

#[cfg(test)]
mod tests {
    use proto::Epoch;
    use proto::group::Name;

    use super::*;

    const ME: PeerId = PeerId([1; 32]);
    const SAM: PeerId = PeerId([2; 32]);

    #[test]
    fn the_ring_begins_with_the_head() {
        let layers = |run: &Running| {
            let stages = stages(run).into_iter();
            stages
                .map(|stage| (stage.phone, stage.layers))
                .collect::<Vec<_>>()
        };

        let shared = run(Phase::Ready, &[(SAM, (0, 20)), (ME, (20, 30))]);
        assert_eq!(layers(&shared), [(ME, (20, 30)), (SAM, (0, 20))]);

        let ends_only = run(Phase::Ready, &[(SAM, (0, 30))]);
        assert_eq!(layers(&ends_only), [(ME, (0, 0)), (SAM, (0, 30))]);
    }

    #[test]
    fn a_person_is_told_when_it_is_ready_and_how_it_goes_on() {
        let ready = run(Phase::Ready, &[(ME, (0, 30))]);
        let preparing = |again| run(Phase::Preparing { again }, &[]);
        let too_small = run(Phase::Failed(Trouble::TooSmall { missing_bytes: 7 }), &[]);

        assert_eq!(notice_of(None, Some(&ready)), None);
        assert_eq!(notice_of(Some(&ready), Some(&ready)), None);
        let (model, phones) = ("smol".to_owned(), 1);
        assert_eq!(
            notice_of(Some(&preparing(false)), Some(&ready)),
            Some(Notice::ModelReady { model, phones })
        );
        assert_eq!(
            notice_of(Some(&preparing(true)), Some(&ready)),
            Some(Notice::ContinuingAlone)
        );
        assert_eq!(
            notice_of(Some(&ready), Some(&too_small)),
            Some(Notice::TooSmall { missing_bytes: 7 })
        );
        assert_eq!(notice_of(Some(&ready), None), None);
    }

    #[test]
    fn a_person_is_told_because_of_whom_the_work_is_shared_out_otherwise() {
        let board = |phase, stages: &[_], device: Option<Snapshot>| {
            let standing = proto::standing::Standing {
                device,
                ..Default::default()
            };
            let sam = MemberStanding {
                standing,
                ..Default::default()
            };
            Board {
                members: [(ME, MemberStanding::default()), (SAM, sam)].into(),
                run: Some(run(phase, stages)),
                ..Board::default()
            }
        };
        let again = Phase::Preparing { again: true };
        let (both, less) = (
            [(ME, (0, 10)), (SAM, (10, 30))],
            [(ME, (0, 20)), (SAM, (20, 30))],
        );
        let alone = [(ME, (0, 30))];
        let before = board(Phase::Ready, &both, None);
        let with = |thermal, relief| {
            Some(Snapshot {
                thermal,
                relief,
                ..DEVICE
            })
        };
        let half = |is_hot| Relief::AtMost {
            shards_bytes: 7,
            is_hot,
        };
        let cases = [
            (board(again, &less, None), RebalanceReason::Slow),
            (
                board(again, &less, with(Thermal::Serious, half(true))),
                RebalanceReason::Hot,
            ),
            (
                board(again, &less, with(Thermal::Nominal, half(false))),
                RebalanceReason::LowMemory,
            ),
            (
                board(
                    again,
                    &alone,
                    with(Thermal::Nominal, Relief::Rest(Rest::LowBattery)),
                ),
                RebalanceReason::LowBattery,
            ),
        ];

        for (after, reason) in cases {
            assert_eq!(rebalanced(&before, &after), Some((SAM, reason)));
        }
        let newcomer = board(again, &both, None);
        let was_alone = board(Phase::Ready, &alone, None);
        assert_eq!(
            rebalanced(&was_alone, &newcomer),
            Some((SAM, RebalanceReason::Newcomer))
        );

        let mut gone = board(again, &alone, None);
        gone.members.remove(&SAM);
        assert_eq!(rebalanced(&before, &gone), None);
        let lost = board(
            Phase::Failed(Trouble::PhoneLost { phone: SAM }),
            &both,
            None,
        );
        assert_eq!(rebalanced(&lost, &board(again, &alone, None)), None);
    }

    const DEVICE: Snapshot = Snapshot {
        free_bytes: 1,
        total_bytes: 1,
        budget_bytes: 1,
        battery: None,
        thermal: Thermal::Nominal,
        low_memory: false,
        power_save: false,
        is_metered: false,
        policy: proto::device::Policy {
            memory_limit_bytes: None,
            battery_floor_percent: 20,
            only_while_charging: false,
            use_metered: true,
        },
        relief: Relief::None,
    };

    fn run(phase: Phase, stages: &[(PeerId, (u32, u32))]) -> Running {
        let stages = stages.iter().map(|&(phone, layers)| RunStage {
            phone,
            layers,
            ms_per_token: None,
        });

        Running {
            model: Some(proto::ModelId([5; 32])),
            name: Name::tidy("smol"),
            n_layers: 30,
            started_by: ME,
            phase,
            epoch: Epoch(1),
            stages: stages.collect(),
            head: Some(ME),
            forecast: None,
            measured: None,
            questions: Default::default(),
            n_questions: 0,
        }
    }
}
