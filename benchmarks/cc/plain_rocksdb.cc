// SPDX-License-Identifier: Apache-2.0
//
// The module _plain_rocksdb: Adam on rows that are read from and written to RocksDB at each step, without any
// cache of rows. A fair rival of damo_tf: same bytes per row, same budget, bloom filters, no compression,
// sorted MultiGet, RocksDB's default write-ahead log. And a bare iterator over the rows of a store of
// damo_tf's: nothing that reads all rows can be faster.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/sst_file_writer.h>
#include <rocksdb/table.h>
#include <rocksdb/write_buffer_manager.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace py = pybind11;

namespace {

using Keys = py::array_t<uint64_t, py::array::c_style>;
using Floats = py::array_t<float, py::array::c_style>;

constexpr size_t kHeaderBytes = 32;  // as in damo_tf's rows
constexpr size_t kUpdateNumOffset = 24;
constexpr float kBeta1 = 0.9f;
constexpr float kBeta2 = 0.999f;
constexpr float kEpsilon = 1e-7f;

void Check(const rocksdb::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.ToString());
}

// Big-endian, so that RocksDB's order is that of the numbers.
void EncodeKey(uint64_t key, char* bytes) {
  const uint64_t swapped = __builtin_bswap64(key);
  std::memcpy(bytes, &swapped, sizeof(swapped));
}

rocksdb::Options MakeOptions(size_t memory_budget) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.compression = rocksdb::kNoCompression;
  options.IncreaseParallelism(2);
  options.level_compaction_dynamic_level_bytes = true;
  options.write_buffer_size = std::clamp<size_t>(memory_budget / 8, 1 << 20, 64 << 20);
  options.max_write_buffer_number = 2;
  options.memtable_whole_key_filtering = true;
  options.memtable_prefix_bloom_size_ratio = 0.02;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(memory_budget);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.cache_index_and_filter_blocks = true;
  table.pin_l0_filter_and_index_blocks_in_cache = true;
  table.optimize_filters_for_memory = true;
  table.data_block_index_type = rocksdb::BlockBasedTableOptions::kDataBlockBinaryAndHash;
  // Memtables take their memory from the cache's: both together keep to the budget.
  options.write_buffer_manager =
      std::make_shared<rocksdb::WriteBufferManager>(2 * options.write_buffer_size, table.block_cache);
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

class Database {
 public:
  Database(std::string directory, size_t memory_budget, size_t dim, float learning_rate)
      : directory_(std::move(directory)),
        dim_(dim),
        learning_rate_(learning_rate),
        options_(MakeOptions(memory_budget)) {
    rocksdb::DB* db = nullptr;
    Check(rocksdb::DB::Open(options_, directory_, &db));
    db_.reset(db);
  }

  // Gives sorted keys fresh rows, as one sorted table.
  void Ingest(const Keys& keys) {
    py::gil_scoped_release release;
    const std::string path = directory_ + "/ingest.sst";
    rocksdb::SstFileWriter writer(rocksdb::EnvOptions(), options_);
    Check(writer.Open(path));
    std::vector<char> row(RowBytes());
    char key[8];
    for (py::ssize_t i = 0; i < keys.size(); ++i) {
      EncodeKey(keys.data()[i], key);
      FillFresh(keys.data()[i], row.data());
      Check(writer.Put(rocksdb::Slice(key, sizeof(key)), rocksdb::Slice(row.data(), row.size())));
    }
    Check(writer.Finish());
    rocksdb::IngestExternalFileOptions ingest;
    ingest.move_files = true;
    Check(db_->IngestExternalFile({path}, ingest));
  }

  // One step of Adam on the rows of sorted distinct keys; the gradient of a row is its weights times its
  // count.
  void Step(const Keys& keys, const Floats& counts) {
    py::gil_scoped_release release;
    const size_t num_keys = keys.size();
    Read(keys.data(), num_keys);
    rocksdb::WriteBatch batch(num_keys * (RowBytes() + 16));
    std::vector<char> row(RowBytes());
    for (size_t i = 0; i < num_keys; ++i) {
      if (statuses_[i].IsNotFound()) {
        FillFresh(keys.data()[i], row.data());
      } else {
        Check(statuses_[i]);
        if (values_[i].size() != row.size()) throw std::runtime_error("row of another size");
        std::memcpy(row.data(), values_[i].data(), row.size());
      }
      Update(counts.data()[i], row.data());
      Check(batch.Put(key_slices_[i], rocksdb::Slice(row.data(), row.size())));
      values_[i].Reset();
    }
    Check(db_->Write(rocksdb::WriteOptions(), &batch));
  }

  // Returns when nothing runs in the background.
  void Settle() {
    py::gil_scoped_release release;
    for (const char* property : {"rocksdb.num-running-flushes", "rocksdb.num-running-compactions"}) {
      uint64_t running = 1;
      while (db_->GetIntProperty(property, &running) && running > 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
  }

  void Close() { db_.reset(); }

 private:
  size_t RowBytes() const { return kHeaderBytes + 3 * dim_ * sizeof(float); }

  void Read(const uint64_t* keys, size_t num_keys) {
    key_bytes_.resize(num_keys * 8);
    key_slices_.resize(num_keys);
    values_.resize(num_keys);
    statuses_.resize(num_keys);
    for (size_t i = 0; i < num_keys; ++i) {
      EncodeKey(keys[i], &key_bytes_[i * 8]);
      key_slices_[i] = rocksdb::Slice(&key_bytes_[i * 8], 8);
    }
    const bool sorted = true;
    db_->MultiGet(rocksdb::ReadOptions(), db_->DefaultColumnFamily(), num_keys, key_slices_.data(),
                  values_.data(), statuses_.data(), sorted);
  }

  // Small weights that depend on the key, no moments.
  void FillFresh(uint64_t key, char* row) const {
    std::memset(row, 0, RowBytes());
    std::memcpy(row + 8, &key, sizeof(key));
    float* weights = reinterpret_cast<float*>(row + kHeaderBytes);
    for (size_t i = 0; i < dim_; ++i) {
      weights[i] = 0.1f * (static_cast<float>((key >> (4 * (i % 16))) & 15) / 15.0f - 0.5f);
    }
  }

  void Update(float count, char* row) const {
    int64_t update_num = 0;
    std::memcpy(&update_num, row + kUpdateNumOffset, sizeof(update_num));
    ++update_num;
    std::memcpy(row + kUpdateNumOffset, &update_num, sizeof(update_num));
    const auto n = static_cast<double>(update_num);
    const auto rate = static_cast<float>(learning_rate_ * std::sqrt(1 - std::pow(double{kBeta2}, n)) /
                                         (1 - std::pow(double{kBeta1}, n)));
    float* weights = reinterpret_cast<float*>(row + kHeaderBytes);
    float* first = weights + dim_;
    float* second = first + dim_;
    for (size_t i = 0; i < dim_; ++i) {
      const float gradient = count * weights[i];
      first[i] = kBeta1 * first[i] + (1 - kBeta1) * gradient;
      second[i] = kBeta2 * second[i] + (1 - kBeta2) * gradient * gradient;
      weights[i] -= rate * first[i] / (std::sqrt(second[i]) + kEpsilon);
    }
  }

  const std::string directory_;
  const size_t dim_;
  const float learning_rate_;
  const rocksdb::Options options_;
  std::unique_ptr<rocksdb::DB> db_;
  // Kept from step to step, to spare allocations.
  std::string key_bytes_;
  std::vector<rocksdb::Slice> key_slices_;
  std::vector<rocksdb::PinnableSlice> values_;
  std::vector<rocksdb::Status> statuses_;
};

// The rows of a store, or of any database, opened read-only.
class Rows {
 public:
  explicit Rows(const std::string& directory) {
    std::vector<std::string> names;
    Check(rocksdb::DB::ListColumnFamilies(rocksdb::DBOptions(), directory, &names));
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const std::string& name : names) families.emplace_back(name, rocksdb::ColumnFamilyOptions());
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* db = nullptr;
    Check(rocksdb::DB::OpenForReadOnly(rocksdb::DBOptions(), directory, families, &handles, &db));
    db_.reset(db);
    for (rocksdb::ColumnFamilyHandle* const handle : handles) Check(db->DestroyColumnFamilyHandle(handle));
  }

  // Passes over all rows of the default family; returns their number.
  uint64_t Iterate() const {
    py::gil_scoped_release release;
    rocksdb::ReadOptions read;
    read.fill_cache = false;
    read.readahead_size = 1 << 20;
    const std::unique_ptr<rocksdb::Iterator> row(db_->NewIterator(read));
    uint64_t num_rows = 0;
    for (row->SeekToFirst(); row->Valid(); row->Next()) {
      if (row->value().size() < kHeaderBytes) throw std::runtime_error("row of another size");
      ++num_rows;
    }
    Check(row->status());
    return num_rows;
  }

  void Close() { db_.reset(); }

 private:
  std::unique_ptr<rocksdb::DB> db_;
};

}  // namespace

PYBIND11_MODULE(_plain_rocksdb, module) {
  py::class_<Database>(module, "Database")
      .def(py::init<std::string, size_t, size_t, float>(), py::arg("directory"), py::arg("memory_budget"),
           py::arg("dim"), py::arg("learning_rate"))
      .def("ingest", &Database::Ingest, py::arg("keys"))
      .def("step", &Database::Step, py::arg("keys"), py::arg("counts"))
      .def("settle", &Database::Settle)
      .def("close", &Database::Close);
  py::class_<Rows>(module, "Rows")
      .def(py::init<const std::string&>(), py::arg("directory"))
      .def("iterate", &Rows::Iterate)
      .def("close", &Rows::Close);
}
