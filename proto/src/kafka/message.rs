//! The macro that turns declarations of messages into structures that read and write themselves.
//!
//! A declaration is Kafka's own in Rust's words:
//!
//! ```text
//! /// What it is.
//! LeaveGroupRequest {
//!     group_id: Str, 0..;                              // in every version
//!     member_id: Str, 0..=2;                           // in some
//!     generation_id: i32 = -1, 3..;                    // reads as -1 where it is missing
//!     protocol_name: Option<Str>, 0.., null 7..;       // null in some versions only
//! } tagged {
//!     0 current_leader: LeaderIdAndEpoch, 10..;        // tagged: written where it is not the default
//! }
//! ```
//!
//! A field that a version does not have is not written. Null where the version has none is written
//! as the empty value, and refused when read.

/// Declares messages and the structures in them.
macro_rules! messages {
    ($(
        $(#[$doc:meta])+
        $name:ident {
            $(
                $(#[$field_doc:meta])*
                $field:ident: $type:ty $(= $default:expr)?, $versions:expr $(, null $null:expr)?;
            )*
        }
        $(tagged {
            $(
                $(#[$tagged_doc:meta])*
                $tag:literal $tagged:ident: $tagged_type:ty $(= $tagged_default:expr)?,
                $tagged_versions:expr;
            )*
        })?
    )*) => { $(
        $(#[$doc])+
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $(
                $(#[$field_doc])*
                #[doc = concat!("\nVersions `", stringify!($versions), "`.")]
                pub $field: $type,
            )*
            $($(
                $(#[$tagged_doc])*
                #[doc = concat!("\nTagged, versions `", stringify!($tagged_versions), "`.")]
                pub $tagged: $tagged_type,
            )*)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $( $field: messages!(@default $($default)?), )*
                    $($( $tagged: messages!(@default $($tagged_default)?), )*)?
                }
            }
        }

        impl $crate::kafka::Wire for $name {
            fn read(
                from: &mut $crate::kafka::Reader,
            ) -> Result<Self, $crate::kafka::Malformed> {
                #[allow(unused_mut)]
                let mut message = Self::default();
                $(
                    if ($versions).contains(&from.version()) {
                        message.$field = messages!(@read from, $type $(, $null)?);
                    }
                )*
                if from.is_flexible() {
                    #[allow(unused_variables)]
                    from.tagged(|tag, from| {
                        $($(
                            if tag == $tag && ($tagged_versions).contains(&from.version()) {
                                message.$tagged = $crate::kafka::Wire::read(from)?;
                            }
                        )*)?
                        Ok(())
                    })?;
                }
                Ok(message)
            }

            fn write(&self, to: &mut $crate::kafka::Writer) {
                $(
                    if ($versions).contains(&to.version()) {
                        messages!(@write to, self.$field, $type $(, $null)?);
                    }
                )*
                if to.is_flexible() {
                    messages!(@tagged self, to; $($(
                        $tag $tagged: $tagged_type $(= $tagged_default)?, $tagged_versions;
                    )*)?);
                }
            }
        }

        #[cfg(test)]
        impl $crate::kafka::sample::Sample for $name {
            fn sample(from: &mut $crate::kafka::sample::Sampler) -> Self {
                #[allow(unused_mut)]
                let mut message = Self::default();
                $(
                    if ($versions).contains(&from.version()) {
                        message.$field = $crate::kafka::sample::Sample::sample(from);
                        $( messages!(@fill message.$field, from, $null); )?
                    }
                )*
                $($(
                    if from.is_flexible()
                        && !from.is_lean()
                        && ($tagged_versions).contains(&from.version())
                    {
                        message.$tagged = $crate::kafka::sample::Sample::sample(from);
                    }
                )*)?
                message
            }
        }
    )* };

    (@default) => { Default::default() };
    (@default $default:expr) => { $default };

    (@read $from:ident, $type:ty) => { $crate::kafka::Wire::read($from)? };
    (@read $from:ident, $type:ty, $null:expr) => {
        if ($null).contains(&$from.version()) {
            $crate::kafka::Wire::read($from)?
        } else {
            let value: <$type as $crate::kafka::wire::Nullable>::Value =
                $crate::kafka::Wire::read($from)?;
            Some(value)
        }
    };

    (@write $to:ident, $value:expr, $type:ty) => { $crate::kafka::Wire::write(&$value, $to) };
    (@write $to:ident, $value:expr, $type:ty, $null:expr) => {
        match &$value {
            None if !($null).contains(&$to.version()) => {
                let empty = <$type as $crate::kafka::wire::Nullable>::Value::default();
                $crate::kafka::Wire::write(&empty, $to);
            }
            value => $crate::kafka::Wire::write(value, $to),
        }
    };

    (@fill $value:expr, $from:ident, $null:expr) => {
        if !($null).contains(&$from.version()) && $value.is_none() {
            $value = Some(Default::default());
        }
    };

    (@tagged $self:ident, $to:ident; ) => { $to.tagged(&[]) };
    (@tagged $self:ident, $to:ident; $(
        $tag:literal $field:ident: $type:ty $(= $default:expr)?, $versions:expr;
    )+) => {{
        let mut fields: Vec<$crate::kafka::Tagged<'_>> = Vec::new();
        $(
            let default: $type = messages!(@default $($default)?);
            let $field = |to: &mut $crate::kafka::Writer| {
                $crate::kafka::Wire::write(&$self.$field, to);
            };
            if ($versions).contains(&$to.version()) && $self.$field != default {
                fields.push(($tag, &$field));
            }
        )+
        $to.tagged(&fields);
    }};
}

pub(crate) use messages;
