// SPDX-License-Identifier: Apache-2.0
//
// Ops on features, before they are keys. They touch no table: the same input always gives the same output.
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"

REGISTER_OP("DamoFeatureHash")
    .Input("values: Tvalues")
    .Output("keys: Tkeys")
    .Attr("Tvalues: {string, int64, uint64}")
    .Attr("Tkeys: {int64, uint64} = DT_INT64")
    .Attr("field: string")
    .Attr("padding_value: list(string) = []")
    .Attr("padding_key: int = 0")
    .SetShapeFn(tensorflow::shape_inference::UnchangedShape)
    .Doc(R"doc(
Hashes the values of one field to 64-bit keys, as docs/feature_hash.md says.

values: Any shape. Byte strings, or integers, which are hashed as their decimal text.
keys: The shape of values. The bits of uint64 keys.
field: Name of the field, UTF-8.
padding_value: At most one value, in bytes, whose key is `padding_key`; no other value gets that key.
padding_key: As int64 bits. Not used without `padding_value`.
)doc");
