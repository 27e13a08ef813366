// SPDX-License-Identifier: Apache-2.0
//
// Ops on a table as a whole. All are stateful: TensorFlow must neither merge nor drop nor reorder them.
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace damo::ops {

using tensorflow::shape_inference::InferenceContext;

REGISTER_OP("DamoTableHandle")
    .Input("directory: string")
    .Output("table: resource")
    .Attr("group: int >= 0")
    .Attr("saved: bool = false")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* context) {
      tensorflow::shape_inference::ShapeHandle directory;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 0, &directory));
      return tensorflow::shape_inference::ScalarShape(context);
    })
    .Doc(R"doc(
Makes a handle to one group of a store.

The store is shared if it is open in this process, and opened as it stands otherwise. It stays open as long as the
handle lives.

directory: Scalar. Path of the store.
table: Scalar. Handle to the group's table.
group: Number of the group, 0 to 255. It must exist.
saved: Whether the op comes out of a SavedModel. The environment variable DAMO_STORE, if it is set and not empty, is
  then the path of the store in place of `directory`.
)doc");

REGISTER_OP("DamoTableSize")
    .Input("table: resource")
    .Output("size: int64")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::ScalarShape)
    .Doc(R"doc(
Counts the rows of a table.

table: Scalar. Handle to the table.
size: Scalar. Rows that exist and have not expired.
)doc");

REGISTER_OP("DamoTableStep")
    .Input("table: resource")
    .Output("step: int64")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::ScalarShape)
    .Doc(R"doc(
Reads the global step of a table: how many apply calls it has had, in this process and before.

table: Scalar. Handle to the table.
step: Scalar.
)doc");

}  // namespace damo::ops
