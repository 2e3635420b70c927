//! Loops compiled several times, for processors with wider and wider vectors.
//!
//! The sums in them have a fixed order and no multiplication is fused with an addition, so that all versions give the same bits.

/// Declares a function that runs `body` in the version for the processor at hand. What `body` calls must be `inline(always)`, or it
/// stays what every processor can do.
macro_rules! for_this_processor {
    ($(#[$attribute:meta])* $visibility:vis fn $name:ident<$life:lifetime>($($argument:ident: $kind:ty),* $(,)?) -> $result:ty = $body:path) => {
        $(#[$attribute])*
        $visibility fn $name<$life>($($argument: $kind),*) -> $result {
            struct Work<$life> {
                $($argument: $kind),*
            }
            impl pulp::NullaryFnOnce for Work<'_> {
                type Output = $result;
                #[inline(always)]
                fn call(self) -> $result {
                    $body($(self.$argument),*)
                }
            }
            pulp::Arch::new().dispatch(Work { $($argument),* })
        }
    };
}

pub(crate) use for_this_processor;
