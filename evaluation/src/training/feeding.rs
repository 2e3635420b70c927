//! Makes batches ahead of the device, in a thread of their own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use super::samples::RowSource;
use super::{Inputs, TrainingError};

/// Batches that wait for the device.
const AHEAD: usize = 3;

/// The batches of one pass over some rows, in order.
#[derive(Debug)]
pub(crate) struct Feeder {
    batches: Receiver<Result<Vec<f32>, String>>,
    /// Buffers that the device has used go back to be filled again.
    used: Sender<Vec<f32>>,
}

impl Feeder {
    /// Starts making the batches of `order`, `batch` rows each and the rest at the end; none for resident inputs, which
    /// need no feeding.
    pub(crate) fn start(
        inputs: &Inputs,
        row_len: usize,
        order: &[i64],
        batch: usize,
        pass: u64,
    ) -> Result<Option<Self>, TrainingError> {
        let Inputs::Fed(source) = inputs else { return Ok(None) };
        let (to_device, batches) = sync_channel(AHEAD);
        let (used, free) = channel();
        let work = Work {
            source: Arc::clone(source),
            row_len,
            order: order.to_vec(),
            batch,
            pass,
        };
        thread::Builder::new()
            .name("batches".to_owned())
            .spawn(move || work.run(&to_device, &free))
            .map_err(|error| TrainingError::Data(format!("cannot start a thread that reads data: {error}")))?;
        Ok(Some(Self { batches, used }))
    }

    /// The next batch. Each is to be given back by [`Feeder::give_back`].
    pub(crate) fn next(&self) -> Result<Vec<f32>, TrainingError> {
        self.batches
            .recv()
            .unwrap_or_else(|_| Err("the thread that reads data has ended".to_owned()))
            .map_err(TrainingError::Data)
    }

    pub(crate) fn give_back(&self, buffer: Vec<f32>) {
        // A thread that has made its last batch takes no more buffers.
        let _ = self.used.send(buffer);
    }
}

struct Work {
    source: Arc<dyn RowSource>,
    row_len: usize,
    order: Vec<i64>,
    batch: usize,
    pass: u64,
}

impl Work {
    /// Ends with the last batch, after an error, or when nobody waits for batches any more.
    fn run(&self, to_device: &SyncSender<Result<Vec<f32>, String>>, free: &Receiver<Vec<f32>>) {
        for rows in self.order.chunks(self.batch) {
            let mut buffer = free.try_recv().unwrap_or_default();
            buffer.resize(rows.len() * self.row_len, 0.0);
            let batch = self.source.fill(rows, self.pass, &mut buffer).map(|()| buffer);
            let failed = batch.is_err();
            if to_device.send(batch).is_err() || failed {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row `i` of pass `p` is `[i, p]`; row 7 cannot be read.
    #[derive(Debug)]
    struct Counting;

    impl RowSource for Counting {
        fn rows(&self) -> usize {
            8
        }

        fn fill(&self, rows: &[i64], pass: u64, out: &mut [f32]) -> Result<(), String> {
            for (row, out) in rows.iter().zip(out.chunks_mut(2)) {
                if *row == 7 {
                    return Err("`rows.bin`: gone".to_owned());
                }
                out.copy_from_slice(&[*row as f32, pass as f32]);
            }
            Ok(())
        }

        fn digest(&self) -> [u8; 32] {
            [0; 32]
        }
    }

    fn feeder(order: &[i64], batch: usize) -> Feeder {
        let inputs = Inputs::Fed(Arc::new(Counting));
        Feeder::start(&inputs, 2, order, batch, 5).unwrap().unwrap()
    }

    #[test]
    fn batches_come_in_order_and_the_last_may_be_smaller() {
        let feeder = feeder(&[3, 1, 2], 2);
        for expected in [vec![3.0, 5.0, 1.0, 5.0], vec![2.0, 5.0]] {
            let batch = feeder.next().unwrap();
            assert_eq!(batch, expected);
            feeder.give_back(batch);
        }
    }

    #[test]
    fn an_unreadable_row_is_an_error_of_its_batch() {
        let feeder = feeder(&[0, 7], 1);
        assert_eq!(feeder.next().unwrap(), [0.0, 5.0]);
        assert_eq!(
            feeder.next().unwrap_err().to_string(),
            "training data: `rows.bin`: gone"
        );
    }

    #[test]
    fn resident_inputs_are_not_fed() {
        let inputs = Inputs::from(vec![0.0; 4]);
        assert!(Feeder::start(&inputs, 2, &[0, 1], 1, 0).unwrap().is_none());
    }
}
