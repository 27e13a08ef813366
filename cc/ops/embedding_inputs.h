// SPDX-License-Identifier: Apache-2.0
//
// Inputs, attributes and outputs that kernels of several ops on rows have in common, checked.
#ifndef DAMO_OPS_EMBEDDING_INPUTS_H_
#define DAMO_OPS_EMBEDDING_INPUTS_H_

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "damo/base/span.h"
#include "damo/table/embedding_table.h"
#include "ops/table_resource.h"
#include "ops/tf_status.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor_shape.h"

namespace damo::ops {

// In a kernel's constructor: puts an attribute that was read where it belongs, or fails the construction.
template <typename T>
void KeepAttr(tensorflow::OpKernelConstruction* ctx, absl::StatusOr<T> read, T* value) {
  OP_REQUIRES_OK(ctx, read.status());
  *value = *std::move(read);
}

inline absl::StatusOr<std::optional<uint64_t>> PaddingKeyAttr(tensorflow::OpKernelConstruction* ctx) {
  std::vector<int64_t> padding_key;
  TF_RETURN_IF_ERROR(ctx->GetAttr("padding_key", &padding_key));
  if (padding_key.empty()) return std::nullopt;
  if (padding_key.size() == 1) return static_cast<uint64_t>(padding_key[0]);
  return absl::InvalidArgumentError(
      StrCat("`padding_key` must hold at most one key. Received: ", padding_key.size()));
}

// The attributes `padding_key`, `missing` and `training`.
inline absl::StatusOr<LookupOptions> LookupOptionsAttrs(tensorflow::OpKernelConstruction* ctx) {
  LookupOptions options;
  std::string missing;
  TF_RETURN_IF_ERROR(ctx->GetAttr("missing", &missing));
  options.missing = missing == "zeros" ? MissingRow::kZeros : MissingRow::kInitial;
  TF_RETURN_IF_ERROR(ctx->GetAttr("training", &options.training));
  TF_ASSIGN_OR_RETURN(options.padding_key, PaddingKeyAttr(ctx));
  return options;
}

// int64 keys are the bits of uint64 ones (contract C3).
template <typename Key>
Span<const uint64_t> KeySpan(const tensorflow::Tensor& keys) {
  static_assert(sizeof(Key) == sizeof(uint64_t));
  return {reinterpret_cast<const uint64_t*>(keys.flat<Key>().data()),
          static_cast<size_t>(keys.NumElements())};
}

inline Span<const float> FloatSpan(const tensorflow::Tensor& floats) {
  return {floats.flat<float>().data(), static_cast<size_t>(floats.NumElements())};
}

inline Span<float> FloatSpan(tensorflow::Tensor* floats) {
  return {floats->flat<float>().data(), static_cast<size_t>(floats->NumElements())};
}

inline absl::Status CheckDim(const TableResource& resource, int64_t dim) {
  if (resource.table().dim() == dim) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat("`dim` must be the table's, ", resource.table().dim(), " in ",
                                           resource.DebugString(), ". Received: dim=", dim));
}

inline absl::StatusOr<float> ScalarInput(tensorflow::OpKernelContext* ctx, int index, const char* name) {
  const tensorflow::Tensor& input = ctx->input(index);
  if (tensorflow::TensorShapeUtils::IsScalar(input.shape())) return input.scalar<float>()();
  return absl::InvalidArgumentError(
      StrCat("`", name, "` must be a scalar. Received shape: ", input.shape().DebugString()));
}

// Of a lookup op: the table of input 0, whose dim must be `dim`, after a look at the scalar `anchor`.
inline absl::StatusOr<TablePtr> LookupTableInput(tensorflow::OpKernelContext* ctx, int64_t dim,
                                                 int anchor_index) {
  TF_ASSIGN_OR_RETURN(TablePtr resource, TableInput(ctx, 0));
  TF_RETURN_IF_ERROR(CheckDim(*resource, dim));
  TF_RETURN_IF_ERROR(ScalarInput(ctx, anchor_index, "anchor").status());
  return resource;
}

// Output 1 of a lookup op, the scalar 0.
inline absl::Status SetProbe(tensorflow::OpKernelContext* ctx) {
  tensorflow::Tensor* probe = nullptr;
  TF_RETURN_IF_ERROR(ctx->allocate_output(1, {}, &probe));
  probe->scalar<float>()() = 0.0f;
  return absl::OkStatus();
}

// The input `learning_rate`, which is a list of at most one scalar that begins at `index`.
inline absl::StatusOr<std::optional<double>> LearningRateInput(tensorflow::OpKernelContext* ctx, int index) {
  const int num_rates = ctx->num_inputs() - index;
  if (num_rates == 0) return std::nullopt;
  if (num_rates > 1) {
    return absl::InvalidArgumentError(
        StrCat("`learning_rate` must hold at most one rate. Received: ", num_rates));
  }
  const auto rate = ScalarInput(ctx, index, "learning_rate");
  TF_RETURN_IF_ERROR(rate.status());
  TF_RETURN_IF_ERROR(ToAbslStatus(CheckLearningRate(*rate)));
  return *rate;
}

// The input `loss_scale`; 1 where it is 0.
inline absl::StatusOr<float> LossScaleInput(tensorflow::OpKernelContext* ctx, int index) {
  TF_ASSIGN_OR_RETURN(const float loss_scale, ScalarInput(ctx, index, "loss_scale"));
  if (loss_scale == 0.0f) return 1.0f;
  if (std::isfinite(loss_scale) && std::isfinite(1.0f / loss_scale)) return loss_scale;
  return absl::InvalidArgumentError(
      StrCat("`loss_scale` must be finite and its reciprocal, too. Received: ", loss_scale));
}

// What apply ops end with: `apply(options)`, a call of the table's that returns StatusOr<ApplyResult>, with
// the inputs `loss_scale` and, from an index on, `learning_rate` in its options. Output 0, allocated before
// rows change, becomes NaN if a scaled gradient overflowed, so that a loss-scaling optimizer sees it, else 0.
template <typename Apply>
absl::Status TakeStep(tensorflow::OpKernelContext* ctx, int loss_scale_index, int learning_rate_index,
                      std::optional<uint64_t> padding_key, const Apply& apply) {
  ApplyOptions options;
  options.padding_key = padding_key;
  TF_ASSIGN_OR_RETURN(const float loss_scale, LossScaleInput(ctx, loss_scale_index));
  options.gradient_scale = 1.0f / loss_scale;
  TF_ASSIGN_OR_RETURN(options.learning_rate, LearningRateInput(ctx, learning_rate_index));
  tensorflow::Tensor* token = nullptr;
  TF_RETURN_IF_ERROR(ctx->allocate_output(0, {}, &token));
  const StatusOr<ApplyResult> result = apply(options);
  if (!result.ok()) return ToAbslStatus(result.status());
  const bool overflowed = loss_scale != 1.0f && result->num_skipped > 0;
  token->scalar<float>()() = overflowed ? std::numeric_limits<float>::quiet_NaN() : 0.0f;
  return absl::OkStatus();
}

}  // namespace damo::ops

#endif  // DAMO_OPS_EMBEDDING_INPUTS_H_
