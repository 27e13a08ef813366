// SPDX-License-Identifier: Apache-2.0
//
// Ops on bags of keys, whose rows become one vector each; cc/damo/combiner/bag.h has the formulas. All are
// stateful: TensorFlow must neither merge nor drop nor reorder them.
#include <vector>

#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace damo::ops {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

namespace {

// Checks the inputs table, keys, splits and num_bags, which come first, and the list `weights`; gives the
// number of bags.
absl::Status BagsShape(InferenceContext* context, DimensionHandle* num_bags) {
  ShapeHandle unused, keys, splits;
  TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 0, &unused));
  TF_RETURN_IF_ERROR(context->WithRank(context->input(1), 1, &keys));
  TF_RETURN_IF_ERROR(context->WithRank(context->input(2), 1, &splits));
  TF_RETURN_IF_ERROR(context->WithRank(context->input(3), 1, &unused));
  std::vector<ShapeHandle> weights;
  TF_RETURN_IF_ERROR(context->input("weights", &weights));
  for (const ShapeHandle shape : weights) TF_RETURN_IF_ERROR(context->Merge(keys, shape, &unused));
  return context->Subtract(context->Dim(splits, 0), 1, num_bags);
}

// The input `name` is a list of scalars.
absl::Status CheckScalars(InferenceContext* context, const char* name) {
  std::vector<ShapeHandle> scalars;
  TF_RETURN_IF_ERROR(context->input(name, &scalars));
  ShapeHandle unused;
  for (const ShapeHandle shape : scalars) TF_RETURN_IF_ERROR(context->WithRank(shape, 0, &unused));
  return absl::OkStatus();
}

absl::Status CheckGradients(InferenceContext* context, int index, DimensionHandle num_bags) {
  ShapeHandle unused;
  return context->Merge(context->input(index), context->Matrix(num_bags, InferenceContext::kUnknownDim),
                        &unused);
}

}  // namespace

REGISTER_OP("DamoEmbeddingLookupCombined")
    .Input("table: resource")
    .Input("keys: int64")
    .Input("splits: int64")
    .Input("num_bags: int64")
    .Input("anchor: float")
    .Input("weights: num_weights * float")
    .Input("learning_rate: num_rates * float")
    .Output("combined: float")
    .Output("probe: float")
    .Attr("num_weights: int >= 0 = 0")
    .Attr("num_rates: int >= 0 = 0")
    .Attr("dim: int >= 1")
    .Attr("combiners: list({'sum', 'mean', 'sqrtn'}) >= 1")
    .Attr("padding_key: list(int) = []")
    .Attr("missing: {'initial', 'zeros'} = 'initial'")
    .Attr("training: bool = false")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* context) -> absl::Status {
      DimensionHandle num_bags;
      TF_RETURN_IF_ERROR(BagsShape(context, &num_bags));
      ShapeHandle unused;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(4), 0, &unused));
      TF_RETURN_IF_ERROR(CheckScalars(context, "learning_rate"));
      int64_t dim = 0;
      TF_RETURN_IF_ERROR(context->GetAttr("dim", &dim));
      context->set_output(0, context->Matrix(num_bags, dim));
      context->set_output(1, context->Scalar());
      return absl::OkStatus();
    })
    .Doc(R"doc(
Combines the rows of each bag of keys into one vector. Changes nothing in the store.

Its gradient applies the gradients of `combined` to the rows if `training` (DamoEmbeddingApplyCombinedGradients); the
gradient of `anchor` is that op's token, which makes TensorFlow run it. That of `weights` is computed before
(DamoEmbeddingWeightsGradient).

table: Scalar. Handle to the table.
keys: Vector. The bits of uint64 keys.
splits: Vector, from 0 to the number of keys, never falling: bag b has the keys [splits[b], splits[b + 1]).
num_bags: Vector. How many bags each of `combiners` is for, in order; together all of them.
anchor: Scalar, not used. A float that gradients are asked for; keys have none.
weights: At most one vector, as long as `keys`. What each row is multiplied by; without it 1.
learning_rate: At most one scalar, >= 0: the learning rate of the step that the gradient will take. Without it the
  group's own.
combined: Shape [number of bags, dim]. Zeros for a bag without keys.
probe: Scalar, 0. Added to the loss, its gradient tells the factor that the loss was scaled by.
dim: Weights per row; must be the table's.
combiners: What the weighted sum of a bag's rows is divided by. `sum`: by 1; `mean`: by the sum of its weights;
  `sqrtn`: by the square root of the sum of their squares. Where that is 0, `combined` is zeros.
padding_key: At most one key, as int64 bits; it has no row, and is not counted in any of these sums.
missing: What a key without a row reads as: the value its first update starts from, or zeros.
training: Whether gradients of rows are to be applied. Rows are then brought into memory; else nothing there changes.
)doc");

REGISTER_OP("DamoEmbeddingApplyCombinedGradients")
    .Input("table: resource")
    .Input("keys: int64")
    .Input("splits: int64")
    .Input("num_bags: int64")
    .Input("gradients: float")
    .Input("loss_scale: float")
    .Input("weights: num_weights * float")
    .Input("learning_rate: num_rates * float")
    .Output("token: float")
    .Attr("num_weights: int >= 0 = 0")
    .Attr("num_rates: int >= 0 = 0")
    .Attr("combiners: list({'sum', 'mean', 'sqrtn'}) >= 1")
    .Attr("padding_key: list(int) = []")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* context) -> absl::Status {
      DimensionHandle num_bags;
      TF_RETURN_IF_ERROR(BagsShape(context, &num_bags));
      TF_RETURN_IF_ERROR(CheckGradients(context, 4, num_bags));
      ShapeHandle unused;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(5), 0, &unused));
      TF_RETURN_IF_ERROR(CheckScalars(context, "learning_rate"));
      return tensorflow::shape_inference::ScalarShape(context);
    })
    .Doc(R"doc(
Takes one optimizer step on the row of each distinct key, given the gradients of what bags were combined to.

The gradient of a key's row is that of its bag, times its weight over the bag's divisor. Gradients of equal keys are
summed first, in order.

table: Scalar. Handle to the table.
keys: Vector. The bits of uint64 keys.
splits: Vector. See DamoEmbeddingLookupCombined, as for the rest that is not described here.
num_bags: Vector.
gradients: Shape [number of bags, dim].
loss_scale: Scalar. Gradients are multiplied by its reciprocal; 0 stands for 1.
weights: At most one vector, as long as `keys`.
learning_rate: At most one scalar, >= 0: the learning rate of this step. Without it the group's own.
token: Scalar, 0; NaN if `loss_scale` is not 1 and a gradient was not finite, so that a loss-scaling optimizer sees
  the overflow. Rows with such gradients are left alone.
padding_key: At most one key, as int64 bits, that is left out.
)doc");

REGISTER_OP("DamoEmbeddingWeightsGradient")
    .Input("table: resource")
    .Input("keys: int64")
    .Input("splits: int64")
    .Input("num_bags: int64")
    .Input("gradients: float")
    .Input("weights: num_weights * float")
    .Output("weights_gradient: float")
    .Attr("num_weights: int >= 0 = 0")
    .Attr("combiners: list({'sum', 'mean', 'sqrtn'}) >= 1")
    .Attr("padding_key: list(int) = []")
    .Attr("missing: {'initial', 'zeros'} = 'initial'")
    .Attr("training: bool = false")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* context) -> absl::Status {
      DimensionHandle num_bags;
      TF_RETURN_IF_ERROR(BagsShape(context, &num_bags));
      TF_RETURN_IF_ERROR(CheckGradients(context, 4, num_bags));
      context->set_output(0, context->input(1));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Computes the gradients of the weights of keys, given the gradients of what bags were combined to. Changes nothing in
the store, whose rows it reads as they are now.

table: Scalar. Handle to the table.
keys: Vector. The bits of uint64 keys.
splits: Vector. See DamoEmbeddingLookupCombined, as for the rest that is not described here.
num_bags: Vector.
gradients: Shape [number of bags, dim].
weights: At most one vector, as long as `keys`.
weights_gradient: Vector, as long as `keys`. 0 for padding.
padding_key: At most one key, as int64 bits, that is left out.
missing: What a key without a row reads as.
training: Whether the rows are to be brought into memory.
)doc");

}  // namespace damo::ops
