// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/rocksdb_metadata_cache.h"

#include <functional>
#include <string>
#include <utility>

namespace damo {
namespace {

class MetadataCache final : public rocksdb::Cache {
 public:
  explicit MetadataCache(std::shared_ptr<rocksdb::Cache> blocks) : blocks_(std::move(blocks)) {}

  const char* Name() const override { return "damo.MetadataCache"; }

  // Without a value nothing is cached, only charged.
  rocksdb::Status Insert(const rocksdb::Slice& key, void* value, size_t charge, DeleterFn deleter,
                         Handle** handle, Priority priority) override {
    if (priority == Priority::HIGH || value == nullptr) {
      return blocks_->Insert(key, value, charge, deleter, handle, priority);
    }
    if (handle == nullptr) {  // nobody waits for the block
      if (deleter != nullptr) deleter(key, value);
      return rocksdb::Status::OK();
    }
    rocksdb::Status status = blocks_->Insert(key, value, charge, deleter, handle, priority);
    if (status.ok()) blocks_->Erase(key);  // it stays until its handles are released
    return status;
  }

  // The rest is the cache's own.
  using rocksdb::Cache::Insert;
  using rocksdb::Cache::Lookup;
  using rocksdb::Cache::Release;
  Handle* Lookup(const rocksdb::Slice& key, rocksdb::Statistics* statistics) override {
    return blocks_->Lookup(key, statistics);
  }
  bool Ref(Handle* handle) override { return blocks_->Ref(handle); }
  bool Release(Handle* handle, bool erase_if_last_ref) override {
    return blocks_->Release(handle, erase_if_last_ref);
  }
  void* Value(Handle* handle) override { return blocks_->Value(handle); }
  void Erase(const rocksdb::Slice& key) override { blocks_->Erase(key); }
  uint64_t NewId() override { return blocks_->NewId(); }
  void SetCapacity(size_t capacity) override { blocks_->SetCapacity(capacity); }
  void SetStrictCapacityLimit(bool strict) override { blocks_->SetStrictCapacityLimit(strict); }
  bool HasStrictCapacityLimit() const override { return blocks_->HasStrictCapacityLimit(); }
  size_t GetCapacity() const override { return blocks_->GetCapacity(); }
  size_t GetUsage() const override { return blocks_->GetUsage(); }
  size_t GetOccupancyCount() const override { return blocks_->GetOccupancyCount(); }
  size_t GetTableAddressCount() const override { return blocks_->GetTableAddressCount(); }
  size_t GetUsage(Handle* handle) const override { return blocks_->GetUsage(handle); }
  size_t GetPinnedUsage() const override { return blocks_->GetPinnedUsage(); }
  size_t GetCharge(Handle* handle) const override { return blocks_->GetCharge(handle); }
  DeleterFn GetDeleter(Handle* handle) const override { return blocks_->GetDeleter(handle); }
  void DisownData() override { blocks_->DisownData(); }
  void ApplyToAllEntries(const std::function<void(const rocksdb::Slice& key, void* value, size_t charge,
                                                  DeleterFn deleter)>& callback,
                         const ApplyToAllEntriesOptions& options) override {
    blocks_->ApplyToAllEntries(callback, options);
  }
  void EraseUnRefEntries() override { blocks_->EraseUnRefEntries(); }
  std::string GetPrintableOptions() const override { return blocks_->GetPrintableOptions(); }

 private:
  const std::shared_ptr<rocksdb::Cache> blocks_;
};

}  // namespace

std::shared_ptr<rocksdb::Cache> NewMetadataCache(size_t capacity) {
  return std::make_shared<MetadataCache>(rocksdb::NewLRUCache(capacity));
}

}  // namespace damo
