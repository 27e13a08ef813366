// SPDX-License-Identifier: Apache-2.0
//
// CPU kernels of the ops in embedding_ops.cc.
#include <cstdint>
#include <optional>

#include "damo/table/embedding_table.h"
#include "ops/device_executor.h"
#include "ops/embedding_inputs.h"
#include "ops/read_ahead_executor.h"
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
    KeepAttr(ctx, LookupOptionsAttrs(ctx), &options_);
  }

  void Compute(OpKernelContext* ctx) override {
    RunKernel(ctx, [&] { return Lookup(ctx); });
  }

 private:
  absl::Status Lookup(OpKernelContext* ctx) const {
    TF_ASSIGN_OR_RETURN(const TablePtr resource, LookupTableInput(ctx, dim_, /*anchor_index=*/2));
    // For the gradient only; refused here, a bad one stops the step before anything has changed.
    TF_RETURN_IF_ERROR(LearningRateInput(ctx, 3).status());
    const Tensor& keys = ctx->input(1);
    const auto shape = RowsShape(keys, dim_);
    TF_RETURN_IF_ERROR(shape.status());
    Tensor* embeddings = nullptr;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, *shape, &embeddings));
    TF_RETURN_IF_ERROR(SetProbe(ctx));
    DeviceExecutor executor(ctx);
    return ToAbslStatus(
        resource->table().Lookup(KeySpan<Key>(keys), options_, executor, FloatSpan(embeddings)));
  }

  int64_t dim_ = 0;
  LookupOptions options_;
};

template <typename Key>
class EmbeddingApplyGradientsOp final : public OpKernel {
 public:
  explicit EmbeddingApplyGradientsOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    KeepAttr(ctx, PaddingKeyAttr(ctx), &padding_key_);
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
    DeviceExecutor executor(ctx);
    const auto apply = [&](const ApplyOptions& options) {
      return table.ApplyGradients(KeySpan<Key>(keys), FloatSpan(gradients), options, executor);
    };
    return TakeStep(ctx, 3, 4, padding_key_, apply);
  }

  std::optional<uint64_t> padding_key_;
};

template <typename Key>
class EmbeddingPrefetchOp final : public OpKernel {
 public:
  explicit EmbeddingPrefetchOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    KeepAttr(ctx, PaddingKeyAttr(ctx), &padding_key_);
  }

  void Compute(OpKernelContext* ctx) override {
    RunKernel(ctx, [&]() -> absl::Status {
      TF_ASSIGN_OR_RETURN(const TablePtr resource, TableInput(ctx, 0));
      const Tensor& keys = ctx->input(1);
      const Status status = resource->table().Prefetch(KeySpan<Key>(keys), padding_key_, ReadAheadExecutor());
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
