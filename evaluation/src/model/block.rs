//! Layers of a model that is described by a list.

use serde::Serialize;

/// One layer. Rows are vectors `[features]`, sequences `[length, features]`, or images `[channels, …]` with one to three
/// further axes; what has two axes is a sequence unless a convolution or a pool made it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// A fully connected layer.
    Dense {
        /// Outputs.
        units: usize,
        /// Add a bias.
        bias: bool,
        /// Applied to the result.
        activation: Activation,
        /// Act on the last axis of each row; otherwise rows become vectors first.
        per_position: bool,
    },
    /// A convolution over all axes of a row but the first.
    Conv(Conv),
    /// Sets a share `rate` of its inputs to zero in training and scales the others by `1/(1-rate)`.
    Dropout {
        /// In `[0, 1)`.
        rate: f64,
    },
    /// Normalises each feature or channel over the batch (Ioffe and Szegedy 2015).
    BatchNorm {
        /// Share of the new batch in the running statistics.
        momentum: f64,
        /// Added to the variance.
        epsilon: f64,
    },
    /// Normalises over the last axis (Ba, Kiros and Hinton 2016).
    LayerNorm {
        /// Added to the variance.
        epsilon: f64,
    },
    /// Normalises each row over groups of channels (Wu and He 2018); with one channel a group it is instance
    /// normalisation.
    GroupNorm {
        /// Groups; none for one a channel.
        groups: Option<usize>,
        /// Added to the variance.
        epsilon: f64,
    },
    /// Takes the largest or the mean of windows.
    Pool {
        /// Which.
        kind: Reduction,
        /// Size of the window; one number for all axes, or one an axis.
        size: Vec<usize>,
        /// Steps of the window; as the size when empty.
        stride: Vec<usize>,
        /// What is added around.
        padding: Padding,
    },
    /// Takes the largest or the mean of each channel of an image, or of each feature of a sequence.
    GlobalPool {
        /// Which.
        kind: Reduction,
    },
    /// One position of a sequence.
    Position {
        /// Which, from 0; the last when negative.
        at: i64,
    },
    /// `activation(f(x) + x)`; where `f` changes the shape, `x` goes through a convolution with windows of size 1, or a
    /// dense layer.
    Residual {
        /// `f`
        blocks: Vec<Block>,
        /// Applied to the sum.
        activation: Activation,
    },
    /// Several lists of blocks on the same input, their results joined.
    Parallel {
        /// The lists; an empty one passes its input on.
        branches: Vec<Vec<Block>>,
        /// How results are joined.
        join: Join,
    },
    /// A recurrent layer over a sequence.
    Recurrent {
        /// Which cell.
        cell: Cell,
        /// Numbers in its state.
        units: usize,
        /// Also from the end to the beginning; outputs are put side by side.
        bidirectional: bool,
        /// Give all outputs; otherwise the last state.
        sequence: bool,
    },
    /// Multi-head self-attention over a sequence (Vaswani et al. 2017).
    Attention {
        /// Heads; they divide the features.
        heads: usize,
        /// Dropout of the attention weights.
        dropout: f64,
        /// Look at earlier positions only.
        causal: bool,
    },
    /// An encoder layer: attention and two dense layers, each with a residual connection.
    Transformer {
        /// Heads; they divide the features.
        heads: usize,
        /// Units between the dense layers.
        feed_forward: usize,
        /// Of attention weights, of hidden units, and of what is added.
        dropout: f64,
        /// Between the dense layers.
        activation: Activation,
        /// Normalise before attention and dense layers, not after the sums.
        norm_first: bool,
        /// Look at earlier positions only.
        causal: bool,
    },
    /// Numbers of classes become vectors: rows `[length]` become `[length, width]`.
    Embedding {
        /// Classes: the numbers are 0 to this, exclusive.
        vocabulary: usize,
        /// Numbers in a vector.
        width: usize,
    },
    /// Each column of a table becomes a vector (Gorishniy et al. 2021): rows `[columns]` become `[columns, width]`.
    FeatureTokens {
        /// Numbers in a vector.
        width: usize,
        /// Columns that hold numbers of classes, with how many there are; the others are numbers.
        categorical: Vec<(usize, usize)>,
        /// Put a trainable vector in front, from which a prediction can be made.
        class_token: bool,
    },
    /// Adds a vector for each position of a sequence.
    Positions {
        /// Trainable; otherwise sines and cosines (Vaswani et al. 2017).
        learned: bool,
    },
    /// A function of each number.
    Activation(Activation),
    /// Makes each row a vector.
    Flatten,
    /// Gives rows another shape with as many numbers.
    Reshape {
        /// The shape.
        shape: Vec<usize>,
    },
    /// Puts the axes of rows in another order.
    Permute {
        /// For each new axis, from 0, which one it was.
        order: Vec<usize>,
    },
}

/// The fields of a convolution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Conv {
    /// Channels of the result.
    pub filters: usize,
    /// Size of the window; one number for all axes, or one an axis.
    pub kernel: Vec<usize>,
    /// Steps of the window.
    pub stride: Vec<usize>,
    /// Distance of the points in the window.
    pub dilation: Vec<usize>,
    /// What is added around.
    pub padding: Padding,
    /// Parts of the channels that are convolved separately; none for one a channel.
    pub groups: Option<usize>,
    /// Add a bias.
    pub bias: bool,
    /// Normalise over the batch before the activation.
    pub batch_norm: bool,
    /// Applied to the result.
    pub activation: Activation,
    /// The transposed operation, which enlarges an image by its strides.
    pub transposed: bool,
}

/// Zeros around an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// As many as keep the size when the stride is 1; an odd one at the end.
    Same,
    /// These at both ends of each axis; one number for all axes, or one an axis.
    Sizes(Vec<usize>),
}

/// How windows become numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// The largest.
    Max,
    /// The mean.
    Mean,
}

/// How branches become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// Summed.
    Add,
    /// Side by side along the axis of channels (the first; of sequences and vectors the last).
    Concat,
}

/// Recurrent cells, in PyTorch's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Hochreiter and Schmidhuber 1997.
    Lstm,
    /// Cho et al. 2014.
    Gru,
    /// Elman's, with the hyperbolic tangent.
    Rnn,
}

/// Elementwise functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the usual ones")]
pub enum Activation {
    Linear,
    Relu,
    LeakyRelu,
    Elu,
    Selu,
    Gelu,
    GeluTanh,
    Silu,
    Sigmoid,
    Tanh,
    Softplus,
    HardSigmoid,
    HardSwish,
}

impl Block {
    /// The name in model files.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Dense { .. } => "dense",
            Self::Conv(_) => "conv",
            Self::Dropout { .. } => "dropout",
            Self::BatchNorm { .. } => "batch_norm",
            Self::LayerNorm { .. } => "layer_norm",
            Self::GroupNorm { .. } => "group_norm",
            Self::Pool { .. } => "pool",
            Self::GlobalPool { .. } => "global_pool",
            Self::Position { .. } => "position",
            Self::Residual { .. } => "residual",
            Self::Parallel { .. } => "parallel",
            Self::Recurrent { .. } => "recurrent",
            Self::Attention { .. } => "attention",
            Self::Transformer { .. } => "transformer",
            Self::Embedding { .. } => "embedding",
            Self::FeatureTokens { .. } => "feature_tokens",
            Self::Positions { .. } => "positions",
            Self::Activation(_) => "activation",
            Self::Flatten => "flatten",
            Self::Reshape { .. } => "reshape",
            Self::Permute { .. } => "permute",
        }
    }
}
