//! Arithmetic: llama.cpp runs one shard, samples a token.
