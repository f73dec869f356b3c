//! One layer shard: hidden state in, hidden state out, and a KV cache that grows.
//!
//! A step brings one run of consecutive tokens for each sequence that takes part. Runs of the same
//! length whose sequences are neighbours (0, 1, 2, …) are computed in one graph; others after each
//! other: llama.cpp gives each sequence a cache of its own and can only look at neighbouring ones
//! at once. So a sequence's cache is laid out as if it were alone, and what it computes does not
//! depend on who else is there, but for the rounding of products that take another kernel for more
//! rows.

use std::sync::Arc;

use crate::cache;
use crate::error::RunError;
use crate::llama::{Context, Input, Model, Row};

/// Consecutive tokens of one sequence in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceRun {
    /// Sequence that the tokens continue.
    pub sequence: u32,
    /// Position of the first one: as many as are in the cache.
    pub position: u32,
    /// How many there are, at least 1.
    pub n_tokens: u32,
    /// How many of the last ones are wanted at the output of the last stage.
    pub n_wanted: u32,
}

/// A run of layers, loaded, with its KV cache.
///
/// Dropping it unloads it.
pub struct LayerShard {
    pub(crate) needed_bytes: u64,
    pub(crate) context: Context,
    pub(crate) model: Arc<Model>,
    pub(crate) n_ctx: u32,
    pub(crate) n_batch: u32,
    /// Positions in the cache, by sequence.
    pub(crate) n_positions: Vec<u32>,
}

impl LayerShard {
    /// Runs the layers over the next tokens of some sequences and extends their caches.
    ///
    /// On an error every sequence is as it was before.
    ///
    /// # Shapes
    ///
    /// - `hidden`: `[n_tokens, n_embd]`, row-major, the runs one after the other
    /// - `out`: is resized to the same; without `all_rows` to `[n_wanted, n_embd]`, the wanted rows
    ///   in the same order. Only the last shard of the last stage runs without: the whole model
    ///   drops the other rows there, too.
    ///
    /// # Errors
    ///
    /// - [`RunError::UnknownSequence`] if a sequence is not below `n_sequences`
    /// - [`RunError::Gap`] if a run does not begin where its sequence's cache ends
    /// - [`RunError::CacheFull`] if a sequence would exceed `n_ctx`
    /// - [`RunError::WrongShape`] if `hidden` is not as long as the runs say, if a run has no
    ///   tokens or wants more than it has, or if there are more than `n_batch` tokens
    /// - [`RunError::Backend`] or [`RunError::WrongGraph`] if llama.cpp fails
    ///
    /// # Blocking
    ///
    /// As long as the arithmetic takes.
    pub fn run(
        &mut self,
        runs: &[SequenceRun],
        hidden: &[f32],
        out: &mut Vec<f32>,
        all_rows: bool,
    ) -> Result<(), RunError> {
        self.check(runs, hidden)?;
        let n_embd = self.model.n_embd();
        let n_out = runs
            .iter()
            .map(|run| run.n_rows_out(all_rows))
            .sum::<usize>();
        out.resize(n_out * n_embd, 0.0);

        let (mut hidden, mut out) = (hidden, out.as_mut_slice());
        for group in runs.chunk_by(can_share_graph) {
            let n_in = group.iter().map(|run| run.n_tokens as usize).sum::<usize>();
            let n_out = group
                .iter()
                .map(|run| run.n_rows_out(all_rows))
                .sum::<usize>();
            let (group_in, rest_in) = hidden.split_at(n_in * n_embd);
            let (group_out, rest_out) = out.split_at_mut(n_out * n_embd);

            let rows = group.iter().flat_map(|run| run.rows(all_rows));
            if let Err(error) = self
                .context
                .decode(Input::Hidden(group_in), rows, group_out)
            {
                self.undo(runs);
                return Err(error.into());
            }
            (hidden, out) = (rest_in, rest_out);
        }

        for run in runs {
            self.n_positions[run.sequence as usize] += run.n_tokens;
        }

        Ok(())
    }

    /// Returns how many positions of a sequence are in the cache; 0 for a sequence that there is
    /// not.
    pub fn n_positions(&self, sequence: u32) -> u32 {
        self.n_positions
            .get(sequence as usize)
            .copied()
            .unwrap_or(0)
    }

    /// Forgets what comes after the first `n_positions` of a sequence.
    ///
    /// Does nothing if there are no more.
    ///
    /// # Errors
    ///
    /// - [`RunError::UnknownSequence`]
    /// - [`RunError::WindowLost`] if the cache was imported or copied, has layers with a sliding
    ///   window, and lacks positions that the next token would look at. Clear the sequence and run
    ///   it anew.
    pub fn truncate(&mut self, sequence: u32, n_positions: u32) -> Result<(), RunError> {
        let cached = self.cached(sequence)?;
        if n_positions >= cached {
            return Ok(());
        }
        // The next token looks at itself and `n_swa - 1` positions before it.
        let window = n_positions.saturating_sub(self.model.n_swa().saturating_sub(1));
        let first = self.context.first_position(sequence).unwrap_or(0);
        if n_positions > 0 && first > window {
            return Err(RunError::WindowLost {
                sequence,
                position: n_positions,
                first,
            });
        }

        self.context.forget_from(sequence, n_positions);
        self.n_positions[sequence as usize] = n_positions;

        Ok(())
    }

    /// Forgets a sequence.
    ///
    /// # Errors
    ///
    /// [`RunError::UnknownSequence`]
    pub fn clear(&mut self, sequence: u32) -> Result<(), RunError> {
        self.truncate(sequence, 0)
    }

    /// Makes sequence `to` a copy of sequence `from`.
    ///
    /// The copy holds what the next token looks at: a layer with a sliding window copies its
    /// window, see [`LayerShard::truncate`].
    ///
    /// # Errors
    ///
    /// - [`RunError::UnknownSequence`]
    /// - [`RunError::WrongCache`] as in [`LayerShard::export_sequence`]
    pub fn copy(&mut self, from: u32, to: u32) -> Result<(), RunError> {
        self.cached(to)?;
        if from == to {
            return self.cached(from).map(|_| ());
        }
        // llama.cpp's own copy takes place at the next decode, and would miss what an export or an
        // import does before that. It also copies all of `n_ctx`.
        let mut state = Vec::new();
        self.export_sequence(from, &mut state)?;

        self.import_sequence(to, &state)
    }

    /// Appends a sequence's cache to `out`: what another phone needs to go on with it in a shard of
    /// the same layers.
    ///
    /// # Errors
    ///
    /// - [`RunError::UnknownSequence`]
    /// - [`RunError::WrongCache`] if llama.cpp's state is not what it was when this was written
    pub fn export_sequence(&mut self, sequence: u32, out: &mut Vec<u8>) -> Result<(), RunError> {
        let n_positions = self.cached(sequence)?;
        let header = cache::Header {
            n_positions,
            ..self.cache_header()
        };
        let mut state = Vec::new();
        let written = self
            .context
            .append_state(sequence, &mut state)
            .then_some(());
        let n_sequences = self.n_sequences();

        written
            .and_then(|()| cache::from_state(header, &state, sequence, n_sequences, out))
            .ok_or(RunError::WrongCache { n_ctx: self.n_ctx })
    }

    /// Replaces a sequence's cache by one that [`LayerShard::export_sequence`] wrote, here or on
    /// another phone.
    ///
    /// # Errors
    ///
    /// - [`RunError::UnknownSequence`]
    /// - [`RunError::WrongCache`] if the bytes are not a cache of the same layers, are damaged in
    ///   their structure, or hold more than `n_ctx` positions; the sequence is empty then, or as it
    ///   was
    pub fn import_sequence(&mut self, sequence: u32, state: &[u8]) -> Result<(), RunError> {
        self.cached(sequence)?;
        let wrong = RunError::WrongCache { n_ctx: self.n_ctx };
        let (header, state) = cache::to_state(state, sequence, self.n_sequences()).ok_or(wrong)?;
        let n_positions = header.n_positions;
        if header
            != (cache::Header {
                n_positions,
                ..self.cache_header()
            })
            || n_positions > self.n_ctx
        {
            return Err(wrong);
        }

        self.clear(sequence)?;
        if !self.context.set_state(sequence, &state) {
            self.context.forget_from(sequence, 0);
            return Err(wrong);
        }
        self.n_positions[sequence as usize] = n_positions;

        Ok(())
    }

    /// Returns what the shard takes in memory: weights and what is kept of them a second time, caches
    /// and buffers.
    pub fn needed_bytes(&self) -> u64 {
        self.needed_bytes
    }

    /// Returns the length of a row of hidden state.
    pub fn n_embd(&self) -> usize {
        self.model.n_embd()
    }

    /// Returns how many layers the shard has.
    pub fn n_layers(&self) -> u32 {
        self.model.n_layers()
    }

    /// Returns how many positions a sequence can hold.
    pub fn n_ctx(&self) -> u32 {
        self.n_ctx
    }

    /// Returns how many sequences there are, numbered from 0.
    pub fn n_sequences(&self) -> u32 {
        self.n_positions.len() as u32
    }

    fn check(&self, runs: &[SequenceRun], hidden: &[f32]) -> Result<(), RunError> {
        let n_batch = self.n_batch as usize;
        let mut n_tokens = 0;
        for (i, run) in runs.iter().enumerate() {
            let SequenceRun {
                sequence, position, ..
            } = *run;
            let before = runs[..i]
                .iter()
                .filter(|earlier| earlier.sequence == sequence);
            let cached =
                self.cached(sequence)? + before.map(|earlier| earlier.n_tokens).sum::<u32>();
            if position != cached {
                return Err(RunError::Gap {
                    sequence,
                    position,
                    cached,
                });
            }
            if run.n_tokens > self.n_ctx - cached {
                let (n_tokens, n_ctx) = (run.n_tokens, self.n_ctx);
                return Err(RunError::CacheFull {
                    sequence,
                    position,
                    n_tokens,
                    n_ctx,
                });
            }
            if run.n_tokens == 0 || run.n_wanted > run.n_tokens {
                let (found, wanted) = (run.n_wanted as usize, run.n_tokens as usize);
                return Err(RunError::WrongShape { found, wanted });
            }
            n_tokens += run.n_tokens as usize;
        }

        let n_values = n_tokens * self.model.n_embd();
        if n_tokens > n_batch {
            return Err(RunError::WrongShape {
                found: n_tokens,
                wanted: n_batch,
            });
        }
        if hidden.len() != n_values {
            return Err(RunError::WrongShape {
                found: hidden.len(),
                wanted: n_values,
            });
        }

        Ok(())
    }

    /// Puts the sequences of a step that failed back to where it began.
    fn undo(&mut self, runs: &[SequenceRun]) {
        for run in runs {
            let n_positions = self.n_positions[run.sequence as usize];
            self.context.forget_from(run.sequence, n_positions);
        }
    }

    /// Returns what an exported cache of this shard says about itself, without positions.
    fn cache_header(&self) -> cache::Header {
        let n_embd = u32::try_from(self.model.n_embd()).expect("llama.cpp holds it in an i32");

        cache::Header {
            n_layers: self.model.n_layers(),
            n_embd,
            n_positions: 0,
        }
    }

    fn cached(&self, sequence: u32) -> Result<u32, RunError> {
        let n_sequences = self.n_sequences();
        let cached = self.n_positions.get(sequence as usize).copied();

        cached.ok_or(RunError::UnknownSequence {
            sequence,
            n_sequences,
        })
    }
}

impl SequenceRun {
    fn n_rows_out(&self, all_rows: bool) -> usize {
        if all_rows {
            self.n_tokens as usize
        } else {
            self.n_wanted as usize
        }
    }

    fn rows(self, all_rows: bool) -> impl Iterator<Item = Row> {
        (0..self.n_tokens).map(move |i| Row {
            sequence: self.sequence,
            position: self.position + i,
            wanted: all_rows || i >= self.n_tokens - self.n_wanted,
        })
    }
}

/// Whether llama.cpp computes both runs in one graph without reordering rows.
fn can_share_graph(a: &SequenceRun, b: &SequenceRun) -> bool {
    b.sequence == a.sequence + 1 && b.n_tokens == a.n_tokens
}
