// SPDX-License-Identifier: Apache-2.0
//
// CPU kernels of the ops in table_ops.cc.
#include <cstdlib>
#include <string>

#include "damo/base/build_id.h"
#include "damo/table/store_registry.h"
#include "ops/table_resource.h"
#include "ops/tf_status.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_handle.h"
#include "tensorflow/core/framework/tensor_shape.h"

namespace damo::ops {
namespace {

using tensorflow::DEVICE_CPU;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::ResourceHandle;
using tensorflow::Tensor;
using tensorflow::tstring;

StatusOr<TableResource*> NewTableResource(const std::string& directory, int64_t group) {
  DAMO_RETURN_IF_ERROR(ValidateGroup(group));
  StoreOptions options;
  options.create_if_missing = false;
  DAMO_ASSIGN_OR_RETURN(std::shared_ptr<Store> store, StoreRegistry::Global().Open(directory, options));
  DAMO_ASSIGN_OR_RETURN(std::shared_ptr<EmbeddingTable> table, store->Table(group));
  return new TableResource(std::move(store), std::move(table));
}

// Where a SavedModel that was made on the store in `directory` finds its store here.
std::string StoreOfSavedModel(const std::string& directory) {
  const char* const other =
      std::getenv("DAMO_STORE");  // NOLINT(concurrency-mt-unsafe): nobody here writes it
  return other == nullptr || *other == '\0' ? directory : other;
}

class TableHandleOp final : public OpKernel {
 public:
  explicit TableHandleOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES(ctx, CoreBuildId() == DAMO_BUILD_ID,
                absl::FailedPreconditionError(StrCat("the ops were built with engine ", DAMO_BUILD_ID,
                                                     ", but engine ", CoreBuildId(), " is loaded")));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("group", &group_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("saved", &saved_));
  }

  void Compute(OpKernelContext* ctx) override {
    RunKernel(ctx, [&]() -> absl::Status {
      const Tensor& directory = ctx->input(0);
      if (!tensorflow::TensorShapeUtils::IsScalar(directory.shape())) {
        return absl::InvalidArgumentError(
            StrCat("`directory` must be a scalar. Received shape: ", directory.shape().DebugString()));
      }
      const std::string path = directory.scalar<tstring>()();
      StatusOr<TableResource*> resource = NewTableResource(saved_ ? StoreOfSavedModel(path) : path, group_);
      if (!resource.ok()) return ToAbslStatus(resource.status());
      const ResourceHandle handle = MakeTableHandle(*resource, ctx->device()->name());
      Tensor* output = nullptr;
      TF_RETURN_IF_ERROR(ctx->allocate_output(0, {}, &output));
      output->scalar<ResourceHandle>()() = handle;
      return absl::OkStatus();
    });
  }

 private:
  int64_t group_ = 0;
  bool saved_ = false;
};

class TableSizeOp final : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    RunKernel(ctx, [&]() -> absl::Status {
      TF_ASSIGN_OR_RETURN(const TablePtr resource, TableInput(ctx, 0));
      const StatusOr<int64_t> size = resource->table().Size();
      if (!size.ok()) return ToAbslStatus(size.status());
      Tensor* output = nullptr;
      TF_RETURN_IF_ERROR(ctx->allocate_output(0, {}, &output));
      output->scalar<int64_t>()() = *size;
      return absl::OkStatus();
    });
  }
};

class TableStepOp final : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    RunKernel(ctx, [&]() -> absl::Status {
      TF_ASSIGN_OR_RETURN(const TablePtr resource, TableInput(ctx, 0));
      Tensor* output = nullptr;
      TF_RETURN_IF_ERROR(ctx->allocate_output(0, {}, &output));
      output->scalar<int64_t>()() = resource->table().step();
      return absl::OkStatus();
    });
  }
};

REGISTER_KERNEL_BUILDER(Name("DamoTableHandle").Device(DEVICE_CPU), TableHandleOp);
REGISTER_KERNEL_BUILDER(Name("DamoTableSize").Device(DEVICE_CPU), TableSizeOp);
REGISTER_KERNEL_BUILDER(Name("DamoTableStep").Device(DEVICE_CPU), TableStepOp);

}  // namespace
}  // namespace damo::ops
