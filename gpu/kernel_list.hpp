// Every kernel there is: kinds times weight types, each compiled for one token and for more.
#pragma once

/// X(type) for every stored type, in the order of DType.
#define SIGNSPLIT_KERNEL_TYPES(X) X(f32) X(bf16) X(f16) X(int8)

/// X(kind, type) for every kind of one type: row_fused; unfused, its two products; sign_split; certified.
#define SIGNSPLIT_KERNEL_KINDS(X, type) X(fused, type) X(first, type) X(second, type) X(split, type) X(certified, type)
