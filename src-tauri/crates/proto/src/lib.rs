//! What a phone decides, without doing any of it.
