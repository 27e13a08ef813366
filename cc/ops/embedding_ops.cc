// SPDX-License-Identifier: Apache-2.0
//
// Ops on rows. All are stateful: TensorFlow must neither merge nor drop nor reorder them.
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace damo::ops {

using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

namespace {

// The input `learning_rate` is a list, so that it may be left out: none, or one scalar, at `index`. The
// kernel refuses more.
absl::Status CheckLearningRate(InferenceContext* context, int index) {
  for (int i = index; i < context->num_inputs(); ++i) {
    ShapeHandle unused;
    TF_RETURN_IF_ERROR(context->WithRank(context->input(i), 0, &unused));
  }
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("DamoEmbeddingLookup")
    .Input("table: resource")
    .Input("keys: Tkeys")
    .Input("anchor: float")
    .Input("learning_rate: num_rates * float")
    .Output("embeddings: float")
    .Output("probe: float")
    .Attr("Tkeys: {int64, uint64}")
    .Attr("num_rates: int >= 0 = 0")
    .Attr("dim: int >= 1")
    .Attr("padding_key: list(int) = []")
    .Attr("missing: {'initial', 'zeros'} = 'initial'")
    .Attr("training: bool = false")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* context) -> absl::Status {
      ShapeHandle unused;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 0, &unused));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(2), 0, &unused));
      TF_RETURN_IF_ERROR(CheckLearningRate(context, 3));
      int64_t dim = 0;
      TF_RETURN_IF_ERROR(context->GetAttr("dim", &dim));
      ShapeHandle embeddings;
      TF_RETURN_IF_ERROR(context->Concatenate(context->input(1), context->Vector(dim), &embeddings));
      context->set_output(0, embeddings);
      context->set_output(1, context->Scalar());
      return absl::OkStatus();
    })
    .Doc(R"doc(
Reads the weights of rows. Changes nothing in the store.

Its gradient applies the gradients of `embeddings` to the rows (DamoEmbeddingApplyGradients); the gradient of
`anchor` is that op's token, which makes TensorFlow run it.

table: Scalar. Handle to the table.
keys: Any shape. The bits of uint64 keys.
anchor: Scalar, not used. A float that gradients are asked for; keys have none.
learning_rate: At most one scalar, >= 0: the learning rate of the step that the gradient will take. Without it the
  group's own.
embeddings: Shape keys.shape + [dim].
probe: Scalar, 0. Added to the loss, its gradient tells the factor that the loss was scaled by.
dim: Weights per row; must be the table's.
padding_key: At most one key, as int64 bits; it reads as zeros and gets no gradient.
missing: What a key without a row reads as: the value its first update starts from, or zeros.
training: Whether gradients are to follow. Rows are then brought into memory; else nothing there changes.
)doc");

REGISTER_OP("DamoEmbeddingApplyGradients")
    .Input("table: resource")
    .Input("keys: Tkeys")
    .Input("gradients: float")
    .Input("loss_scale: float")
    .Input("learning_rate: num_rates * float")
    .Output("token: float")
    .Attr("Tkeys: {int64, uint64}")
    .Attr("num_rates: int >= 0 = 0")
    .Attr("padding_key: list(int) = []")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* context) -> absl::Status {
      ShapeHandle unused;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 0, &unused));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(3), 0, &unused));
      TF_RETURN_IF_ERROR(CheckLearningRate(context, 4));
      ShapeHandle rows;
      TF_RETURN_IF_ERROR(
          context->Concatenate(context->input(1), context->Vector(InferenceContext::kUnknownDim), &rows));
      TF_RETURN_IF_ERROR(context->Merge(rows, context->input(2), &unused));
      return tensorflow::shape_inference::ScalarShape(context);
    })
    .Doc(R"doc(
Takes one optimizer step on the row of each distinct key. Gradients of equal keys are summed first, in order.

table: Scalar. Handle to the table.
keys: Any shape. The bits of uint64 keys.
gradients: Shape keys.shape + [dim].
loss_scale: Scalar. Gradients are multiplied by its reciprocal; 0 stands for 1.
learning_rate: At most one scalar, >= 0: the learning rate of this step. Without it the group's own.
token: Scalar, 0; NaN if `loss_scale` is not 1 and a gradient was not finite, so that a loss-scaling optimizer sees
  the overflow. Rows with such gradients are left alone.
padding_key: At most one key, as int64 bits, that is left out.
)doc");

REGISTER_OP("DamoEmbeddingPrefetch")
    .Input("table: resource")
    .Input("keys: Tkeys")
    .Output("same_keys: Tkeys")
    .Attr("Tkeys: {int64, uint64}")
    .Attr("padding_key: list(int) = []")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* context) -> absl::Status {
      ShapeHandle unused;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 0, &unused));
      context->set_output(0, context->input(1));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Brings the rows of keys into memory, so that a lookup or apply that follows need not read the disk.

Changes no value that is read or trained, now or later. For use in an input pipeline, while the model trains on
earlier batches.

table: Scalar. Handle to the table.
keys: Any shape. The bits of uint64 keys.
same_keys: `keys`. In a function the op runs whether or not this is used.
padding_key: At most one key, as int64 bits, that has no row.
)doc");

}  // namespace damo::ops
