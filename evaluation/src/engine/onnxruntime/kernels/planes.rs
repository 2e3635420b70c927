//! Images with the zeros around them written out, so that every shift of a window is one distance in memory.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | phase | the rows and columns of an image with the same remainder by the strides, as an image of its own |
//! | plane | one phase of one channel, with its padding; its rows lie a *pitch* apart |
//!
//! With a stride, every shift of a window takes its numbers from one phase, in which they are neighbours.

/// The arrangement of images of one shape.
#[derive(Debug, Clone)]
pub(super) struct Planes {
    pub(super) channels: usize,
    /// Rows and columns of an image.
    pub(super) size: [usize; 2],
    pub(super) strides: [usize; 2],
    /// Rows and columns of zeros before the image; where negative, so many of its own are left out.
    pub(super) begin: [isize; 2],
    /// Remainders of the phases in use.
    pub(super) phases: Vec<[usize; 2]>,
    /// Rows of a plane, and its pitch.
    pub(super) plane: [usize; 2],
}

/// Numbers after the last image, which whole vectors may read and nothing depends on.
const SLACK: usize = 64;

impl Planes {
    /// Numbers of one image.
    pub(super) fn image(&self) -> usize {
        self.channels * self.phases.len() * self.plane[0] * self.plane[1]
    }

    /// Numbers of `images` images and what may be read beyond.
    pub(super) fn length(&self, images: usize) -> usize {
        images * self.image() + self.plane[1] + SLACK
    }

    /// The place in an image of a number in a phase.
    pub(super) fn place(&self, channel: usize, phase: usize, row: usize, column: usize) -> usize {
        ((channel * self.phases.len() + phase) * self.plane[0] + row) * self.plane[1] + column
    }

    /// The rows (`axis` 0) or columns (1) of a phase that the image covers: the first and one past the last, and the
    /// image's own row or column of the first.
    fn covered(&self, axis: usize, phase: usize) -> (usize, usize, usize) {
        let (stride, size) = (self.strides[axis] as isize, self.size[axis] as isize);
        let shift = self.begin[axis] - phase as isize;
        let first = -(-shift).div_euclid(stride);
        let first = first.max(0);
        let last = (size + shift + stride - 1).div_euclid(stride);
        let last = last.clamp(first, self.plane[axis] as isize);
        (first as usize, last as usize, (first * stride - shift) as usize)
    }

    /// Writes one image, `[channels, rows, columns]`.
    pub(super) fn write(&self, image: &[f32], planes: &mut [f32]) {
        let [rows, pitch] = self.plane;
        let [stride_rows, stride] = self.strides;
        let phases: Vec<_> = self
            .phases
            .iter()
            .map(|phase| (self.covered(0, phase[0]), self.covered(1, phase[1])))
            .collect();
        let all = planes.chunks_exact_mut((rows * pitch).max(1));
        for (index, plane) in all.take(self.channels * phases.len()).enumerate() {
            let (channel, phase) = (index / phases.len(), index % phases.len());
            let pixels = &image[channel * self.size[0] * self.size[1]..][..self.size[0] * self.size[1]];
            let ((first, last, row), (left, right, column)) = phases[phase];
            // Zeros up to here, or pixels.
            let mut done = 0;
            if left < right {
                for (at, source) in (first..last).zip((row..).step_by(stride_rows)) {
                    let source = &pixels[source * self.size[1] + column..(source + 1) * self.size[1]];
                    let start = at * pitch + left;
                    plane[done..start].fill(0.0);
                    done = start + right - left;
                    let target = &mut plane[start..done];
                    if stride == 1 {
                        target.copy_from_slice(&source[..right - left]);
                    } else {
                        for (target, source) in target.iter_mut().zip(source.iter().step_by(stride)) {
                            *target = *source;
                        }
                    }
                }
            }
            plane[done..].fill(0.0);
        }
    }
}
