//! Conversations that share a shard write what each would write alone.

mod split;

use engine::{RunError, SequenceRun, Token};
use gguf_tools::TensorType;
use split::{
    CutModel, N_BATCH, N_CTX, SMOLLM2, SplitModel, TinyModel, assert_same_bits, continue_split,
    engine, greedy, options, real_model,
};

/// Tokens that each conversation writes.
const N_TOKENS: usize = 40;

/// Three conversations at different points, a token of each in every step.
#[test]
fn batched_conversations_write_what_each_writes_alone() {
    let Some(path) = real_model(SMOLLM2) else {
        return;
    };
    let cut = CutModel::even(&path, 3);
    let mut split = cut.load(&engine(), &options(3));
    let prompts = prompts(&split);
    let alone = alone(&mut split, &prompts);

    let together = together(&mut split, &prompts, &[0, 1, 2]);

    assert_eq!(together, alone);
}

/// Sequence numbers with gaps and out of order: computed one after the other, and the rows still
/// come back in order.
#[test]
fn conversations_need_not_be_neighbours() {
    let Some(path) = real_model(SMOLLM2) else {
        return;
    };
    let cut = CutModel::even(&path, 3);
    let mut split = cut.load(&engine(), &options(6));
    let prompts = prompts(&split);
    let alone = alone(&mut split, &prompts);

    let together = together(&mut split, &prompts, &[5, 0, 2]);

    assert_eq!(together, alone);
}

/// One reads its prompt in chunks while the other writes.
#[test]
fn a_prompt_and_an_answer_share_steps() {
    let Some(path) = real_model(SMOLLM2) else {
        return;
    };
    let cut = CutModel::even(&path, 2);
    let mut split = cut.load(&engine(), &options(2));
    let prompts = prompts(&split);
    let alone = alone(&mut split, &prompts);

    let mut token = greedy(split.append(0, &prompts[0]));
    let mut answer = vec![token];
    let mut last = 0;
    for chunk in prompts[1].chunks(5) {
        let runs = [run(&split, 0, 1), run(&split, 1, chunk.len() as u32)];
        let step = [&[token], chunk].concat();
        let n_vocab = split.ends.n_vocab();
        let logits = split.step(&runs, &step).expect("the step fits");
        token = greedy(&logits[..n_vocab]);
        last = greedy(&logits[n_vocab..]);
        answer.push(token);
    }

    assert_eq!(answer, alone[0][..answer.len()]);
    assert_eq!(last, alone[1][0]);
}

/// Rows of one graph are computed alike however many there are: bit for bit with quantised weights,
/// of which each row is a product of its own. F16 and F32 take another kernel for several rows, and
/// differ by rounding.
#[test]
fn batching_changes_no_bit_of_quantised_models() {
    for preset in [
        "tiny-llama",
        "tiny-qwen2",
        "tiny-qwen3",
        "tiny-gemma3",
        "tiny-bloom",
        "tiny-phi3",
    ] {
        for (matrices, tolerance) in [
            (TensorType::Q4_0, 0.0),
            (TensorType::Q8_0, 0.0),
            (TensorType::F16, 0.1),
            (TensorType::F32, 0.02),
        ] {
            for n_sequences in [2, 6] {
                let distance = distance_when_batched(preset, matrices, n_sequences);
                assert!(
                    distance <= tolerance,
                    "{preset} {matrices}, {n_sequences} sequences: {distance}"
                );
            }
        }
    }
}

/// Returns how far logits of a step of several sequences are from those of steps of one; infinite
/// if NaN.
fn distance_when_batched(preset: &str, matrices: TensorType, n_sequences: u32) -> f32 {
    let model = TinyModel::new(preset, matrices);
    let cut = CutModel::new(&model.path, &[2]);
    let [mut batched, mut alone] = [(); 2].map(|()| cut.load(&engine(), &options(n_sequences)));
    for sequence in 0..n_sequences {
        // The first is long enough that llama.cpp computes its attention in another way when it is
        // alone.
        let prompt = tokens(
            sequence,
            if sequence == 0 {
                270
            } else {
                20 + 7 * sequence as usize
            },
        );
        for chunk in prompt.chunks(N_BATCH as usize) {
            batched.append(sequence, chunk);
            alone.append(sequence, chunk);
        }
    }

    let mut distance = 0.0f32;
    for step in 0..8 {
        let next = tokens(step + 9, n_sequences as usize);
        let runs: Vec<_> = (0..n_sequences)
            .map(|sequence| run(&batched, sequence, 1))
            .collect();
        let n_vocab = batched.ends.n_vocab();
        let logits = batched.step(&runs, &next).expect("the step fits");
        for ((sequence, logits), token) in (0..).zip(logits.chunks(n_vocab)).zip(&next) {
            let wanted = alone.append(sequence, &[*token]);
            let differences = logits.iter().zip(wanted).map(|(a, b)| (a - *b).abs());
            distance = differences.fold(distance, |a, b| {
                if b <= a {
                    a
                } else if b.is_nan() {
                    f32::INFINITY
                } else {
                    b
                }
            });
        }
    }

    distance
}

#[test]
fn steps_that_do_not_fit_are_refused_and_leave_no_trace() {
    let model = TinyModel::new("tiny-llama", TensorType::Q4_0);
    let cut = CutModel::new(&model.path, &[3]);
    let (mut split, mut fresh) = (
        cut.load(&engine(), &options(2)),
        cut.load(&engine(), &options(2)),
    );
    let shard = &mut split.layers[0];
    let n_embd = shard.n_embd();
    let mut out = Vec::new();
    let mut refusal = |runs: &[SequenceRun], n_rows: u32| {
        let hidden = vec![0.0; n_rows as usize * n_embd];
        shard
            .run(runs, &hidden, &mut out, true)
            .expect_err("the step does not fit")
    };
    let run = |sequence, position, n_tokens| SequenceRun {
        sequence,
        position,
        n_tokens,
        n_wanted: 1,
    };

    assert_eq!(
        refusal(&[run(0, 1, 1)], 1),
        RunError::Gap {
            sequence: 0,
            position: 1,
            cached: 0
        }
    );
    assert_eq!(
        refusal(&[run(0, 0, 2), run(0, 3, 1)], 3),
        RunError::Gap {
            sequence: 0,
            position: 3,
            cached: 2
        }
    );
    assert_eq!(
        refusal(&[run(2, 0, 1)], 1),
        RunError::UnknownSequence {
            sequence: 2,
            n_sequences: 2
        }
    );
    let too_long = RunError::CacheFull {
        sequence: 0,
        position: 0,
        n_tokens: N_CTX + 1,
        n_ctx: N_CTX,
    };
    assert_eq!(refusal(&[run(0, 0, N_CTX + 1)], N_CTX + 1), too_long);
    let too_many = RunError::WrongShape {
        found: N_BATCH as usize + 1,
        wanted: N_BATCH as usize,
    };
    assert_eq!(refusal(&[run(0, 0, N_BATCH + 1)], N_BATCH + 1), too_many);
    assert_eq!(
        refusal(&[run(0, 0, 2)], 1),
        RunError::WrongShape {
            found: n_embd,
            wanted: 2 * n_embd
        }
    );
    assert_eq!(
        refusal(&[run(0, 0, 0)], 0),
        RunError::WrongShape {
            found: 1,
            wanted: 0
        }
    );

    let logits = fresh.append(0, &tokens(1, 30)).to_vec();
    assert_same_bits(split.append(0, &tokens(1, 30)), &logits, "after refusals");
}

#[test]
fn a_sequence_can_be_filled_to_the_last_position() {
    let model = TinyModel::new("tiny-gemma3", TensorType::Q4_0);
    let cut = CutModel::new(&model.path, &[3]);
    let mut split = cut.load(&engine(), &options(2));

    for chunk in tokens(1, N_CTX as usize).chunks(100) {
        split.append(1, chunk);
    }

    assert_eq!(split.layers[0].n_positions(1), N_CTX);
    let full = split
        .step(&[run(&split, 1, 1)], &[7])
        .expect_err("the sequence is full");
    assert_eq!(
        full,
        RunError::CacheFull {
            sequence: 1,
            position: N_CTX,
            n_tokens: 1,
            n_ctx: N_CTX
        }
    );
}

/// A step that wants no row, as in the middle of a prompt, still fills the caches.
#[test]
fn a_step_may_want_nothing() {
    let model = TinyModel::new("tiny-llama", TensorType::Q4_0);
    let cut = CutModel::new(&model.path, &[3]);
    let (mut split, mut asked) = (
        cut.load(&engine(), &options(1)),
        cut.load(&engine(), &options(1)),
    );
    let silent = SequenceRun {
        n_wanted: 0,
        ..run(&split, 0, 30)
    };

    let logits = split
        .step(&[silent], &tokens(1, 30))
        .expect("the step fits");

    assert!(logits.is_empty());
    asked.append(0, &tokens(1, 30));
    let wanted = asked.append(0, &[7]).to_vec();
    assert_same_bits(split.append(0, &[7]), &wanted, "the step after");
}

#[test]
fn tokens_that_do_not_exist_are_refused() {
    let model = TinyModel::new("tiny-llama", TensorType::Q4_0);
    let mut split = CutModel::new(&model.path, &[]).load(&engine(), &options(1));
    let n_vocab = split.ends.n_vocab();

    for token in [-1, n_vocab as Token, Token::MAX] {
        let refused = split.ends.embed(&[1, token], &mut Vec::new());
        assert_eq!(refused, Err(RunError::UnknownToken { token, n_vocab }));
    }
}

fn run(split: &SplitModel, sequence: u32, n_tokens: u32) -> SequenceRun {
    SequenceRun {
        sequence,
        position: split.layers[0].n_positions(sequence),
        n_tokens,
        n_wanted: 1,
    }
}

fn tokens(seed: u32, n: usize) -> Vec<Token> {
    (0..n as u32)
        .map(|i| ((i * 31 + seed * 97) % 450 + 10) as Token)
        .collect()
}

fn prompts(split: &SplitModel) -> [Vec<Token>; 3] {
    let ask =
        |question: &str| format!("<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n");
    let questions = [
        "What is the capital of France?",
        "Write a long story about a cat and a dog who live in a lighthouse.",
        "Name three colours and say what each of them reminds you of.",
    ];

    questions.map(|question| split.ends.tokenize_prompt(&ask(question)))
}

/// Returns what each conversation writes in sequence 0 with nobody else there; leaves it empty.
fn alone(split: &mut SplitModel, prompts: &[Vec<Token>]) -> Vec<Vec<Token>> {
    let write = |prompt: &Vec<Token>| {
        let answer = continue_split(split, 0, prompt, N_TOKENS);
        split.for_each(|shard| shard.clear(0).expect("there is a sequence 0"));
        answer
    };

    prompts.iter().map(write).collect()
}

/// Returns what the conversations write in these sequences, a token each in every step.
fn together(split: &mut SplitModel, prompts: &[Vec<Token>], sequences: &[u32]) -> Vec<Vec<Token>> {
    let n_vocab = split.ends.n_vocab();
    let firsts = sequences
        .iter()
        .zip(prompts)
        .map(|(&sequence, prompt)| greedy(split.append(sequence, prompt)));
    let mut next: Vec<Token> = firsts.collect();
    let mut answers: Vec<Vec<Token>> = next.iter().map(|&token| vec![token]).collect();

    while answers[0].len() < N_TOKENS {
        let runs: Vec<_> = sequences
            .iter()
            .map(|&sequence| run(split, sequence, 1))
            .collect();
        let logits = split.step(&runs, &next).expect("the step fits");
        next = logits.chunks(n_vocab).map(greedy).collect();
        answers
            .iter_mut()
            .zip(&next)
            .for_each(|(answer, &token)| answer.push(token));
    }

    answers
}
