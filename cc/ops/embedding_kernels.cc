// SPDX-License-Identifier: Apache-2.0
//
// CPU kernels of the ops in embedding_ops.cc.
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "damo/base/span.h"
#include "damo/table/embedding_table.h"
#include "ops/device_executor.h"
#include "ops/table_resource.h"
#include "ops/tf_status.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor_shape.h"

namespace damo::ops {
namespace {

using tensorflow::DEVICE_CPU;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

absl::StatusOr<std::optional<uint64_t>> PaddingKeyAttr(OpKernelConstruction* ctx) {
  std::vector<int64_t> padding_key;
  TF_RETURN_IF_ERROR(ctx->GetAttr("padding_key", &padding_key));
  if (padding_key.empty()) return std::nullopt;
  if (padding_key.size() == 1) return static_cast<uint64_t>(padding_key[0]);
  return absl::InvalidArgumentError(
      StrCat("`padding_key` must hold at most one key. Received: ", padding_key.size()));
}

// int64 keys are the bits of uint64 ones (contract C3).
template <typename Key>
Span<const uint64_t> KeySpan(const Tensor& keys) {
  static_assert(sizeof(Key) == sizeof(uint64_t));
  return {reinterpret_cast<const uint64_t*>(keys.flat<Key>().data()),
          static_cast<size_t>(keys.NumElements())};
}

absl::StatusOr<float> ScalarInput(OpKernelContext* ctx, int index, const char* name) {
  const Tensor& input = ctx->input(index);
  if (tensorflow::TensorShapeUtils::IsScalar(input.shape())) return input.scalar<float>()();
  return absl::InvalidArgumentError(
      StrCat("`", name, "` must be a scalar. Received shape: ", input.shape().DebugString()));
}

// The input `learning_rate`, which is a list of at most one scalar that begins at `index`.
absl::StatusOr<std::optional<double>> LearningRateInput(OpKernelContext* ctx, int index) {
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

// keys.shape + [dim]
absl::StatusOr<TensorShape> RowsShape(const Tensor& keys, int64_t dim) {
  TensorShape shape = keys.shape();
  TF_RETURN_IF_ERROR(shape.AddDimWithStatus(dim));
  return shape;
}

template <typename Key>
class EmbeddingLookupOp final : public OpKernel {
 public:
  explicit EmbeddingLookupOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("dim", &dim_));
    std::string missing;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("missing", &missing));
    options_.missing = missing == "zeros" ? MissingRow::kZeros : MissingRow::kInitial;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("training", &options_.training));
    const auto padding_key = PaddingKeyAttr(ctx);
    OP_REQUIRES_OK(ctx, padding_key.status());
    options_.padding_key = *padding_key;
  }

  void Compute(OpKernelContext* ctx) override {
    RunKernel(ctx, [&] { return Lookup(ctx); });
  }

 private:
  absl::Status Lookup(OpKernelContext* ctx) const {
    TF_ASSIGN_OR_RETURN(const TablePtr resource, TableInput(ctx, 0));
    const EmbeddingTable& table = resource->table();
    if (table.dim() != dim_) {
      return absl::InvalidArgumentError(StrCat("`dim` must be the table's, ", table.dim(), " in ",
                                               resource->DebugString(), ". Received: dim=", dim_));
    }
    TF_RETURN_IF_ERROR(ScalarInput(ctx, 2, "anchor").status());
    // For the gradient only; refused here, a bad one stops the step before anything has changed.
    TF_RETURN_IF_ERROR(LearningRateInput(ctx, 3).status());
    const Tensor& keys = ctx->input(1);
    const auto shape = RowsShape(keys, dim_);
    TF_RETURN_IF_ERROR(shape.status());
    Tensor* embeddings = nullptr;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, *shape, &embeddings));
    Tensor* probe = nullptr;
    TF_RETURN_IF_ERROR(ctx->allocate_output(1, {}, &probe));
    probe->scalar<float>()() = 0.0f;

    DeviceExecutor executor(ctx);
    const Span<float> weights(embeddings->flat<float>().data(),
                              static_cast<size_t>(embeddings->NumElements()));
    return ToAbslStatus(table.Lookup(KeySpan<Key>(keys), options_, executor, weights));
  }

  int64_t dim_ = 0;
  LookupOptions options_;
};

template <typename Key>
class EmbeddingApplyGradientsOp final : public OpKernel {
 public:
  explicit EmbeddingApplyGradientsOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    const auto padding_key = PaddingKeyAttr(ctx);
    OP_REQUIRES_OK(ctx, padding_key.status());
    padding_key_ = *padding_key;
  }

  void Compute(OpKernelContext* ctx) override {
    RunKernel(ctx, [&] { return Apply(ctx); });
  }

 private:
  absl::Status Apply(OpKernelContext* ctx) const {
    TF_ASSIGN_OR_RETURN(const TablePtr resource, TableInput(ctx, 0));
    EmbeddingTable& table = resource->table();
    const Tensor& keys = ctx->input(1);
    const Tensor& gradients = ctx->input(2);
    const auto shape = RowsShape(keys, table.dim());
    TF_RETURN_IF_ERROR(shape.status());
    if (gradients.shape() != *shape) {
      return absl::InvalidArgumentError(
          StrCat("`gradients` must have shape keys.shape + [dim] = ", shape->DebugString(),
                 ". Received shape: ", gradients.shape().DebugString()));
    }
    const auto loss_scale = ScalarInput(ctx, 3, "loss_scale");
    TF_RETURN_IF_ERROR(loss_scale.status());
    if (!std::isfinite(*loss_scale) || (*loss_scale != 0.0f && !std::isfinite(1.0f / *loss_scale))) {
      return absl::InvalidArgumentError(
          StrCat("`loss_scale` must be finite and its reciprocal, too. Received: ", *loss_scale));
    }
    const auto learning_rate = LearningRateInput(ctx, 4);
    TF_RETURN_IF_ERROR(learning_rate.status());
    const bool scaled = *loss_scale != 0.0f && *loss_scale != 1.0f;

    ApplyOptions options;
    options.padding_key = padding_key_;
    options.gradient_scale = scaled ? 1.0f / *loss_scale : 1.0f;
    options.learning_rate = *learning_rate;
    DeviceExecutor executor(ctx);
    const Span<const float> values(gradients.flat<float>().data(),
                                   static_cast<size_t>(gradients.NumElements()));
    const StatusOr<ApplyResult> result = table.ApplyGradients(KeySpan<Key>(keys), values, options, executor);
    if (!result.ok()) return ToAbslStatus(result.status());

    Tensor* token = nullptr;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, {}, &token));
    const bool overflowed = scaled && result->num_skipped > 0;
    token->scalar<float>()() = overflowed ? std::numeric_limits<float>::quiet_NaN() : 0.0f;
    return absl::OkStatus();
  }

  std::optional<uint64_t> padding_key_;
};

template <typename Key>
class EmbeddingPrefetchOp final : public OpKernel {
 public:
  explicit EmbeddingPrefetchOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    const auto padding_key = PaddingKeyAttr(ctx);
    OP_REQUIRES_OK(ctx, padding_key.status());
    padding_key_ = *padding_key;
  }

  void Compute(OpKernelContext* ctx) override {
    RunKernel(ctx, [&]() -> absl::Status {
      TF_ASSIGN_OR_RETURN(const TablePtr resource, TableInput(ctx, 0));
      const Tensor& keys = ctx->input(1);
      DeviceExecutor executor(ctx);
      const Status status = resource->table().Prefetch(KeySpan<Key>(keys), padding_key_, executor);
      if (status.ok()) ctx->set_output(0, keys);
      return ToAbslStatus(status);
    });
  }

 private:
  std::optional<uint64_t> padding_key_;
};

#define DAMO_REGISTER_EMBEDDING_KERNELS(Key)                                                             \
  REGISTER_KERNEL_BUILDER(Name("DamoEmbeddingLookup").Device(DEVICE_CPU).TypeConstraint<Key>("Tkeys"),   \
                          EmbeddingLookupOp<Key>);                                                       \
  REGISTER_KERNEL_BUILDER(                                                                               \
      Name("DamoEmbeddingApplyGradients").Device(DEVICE_CPU).TypeConstraint<Key>("Tkeys"),               \
      EmbeddingApplyGradientsOp<Key>);                                                                   \
  REGISTER_KERNEL_BUILDER(Name("DamoEmbeddingPrefetch").Device(DEVICE_CPU).TypeConstraint<Key>("Tkeys"), \
                          EmbeddingPrefetchOp<Key>)

DAMO_REGISTER_EMBEDDING_KERNELS(int64_t);
DAMO_REGISTER_EMBEDDING_KERNELS(uint64_t);

#undef DAMO_REGISTER_EMBEDDING_KERNELS

}  // namespace
}  // namespace damo::ops
