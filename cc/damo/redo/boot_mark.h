// SPDX-License-Identifier: Apache-2.0
//
// BootMark: an empty file beside the segments, named after the machine's boot, by which a reader knows
// whether the machine may have lost power since the log was written.
#ifndef DAMO_REDO_BOOT_MARK_H_
#define DAMO_REDO_BOOT_MARK_H_

#include <string>

#include "damo/base/status.h"
#include "damo/redo/log_file_system.h"

namespace damo {

// Whether the log was last opened on another boot than this one. False if this one is unknown (""): nothing
// is then given up as lost.
bool MayHaveLostPower(const std::string& directory, const std::string& boot_id);

// Says that the log has been opened on this boot and holds nothing half lost. Nothing need be synced: loss of
// power may take the mark, but not within the boot it is about.
Status MarkBoot(LogFileSystem* file_system, const std::string& directory, const std::string& boot_id);

}  // namespace damo

#endif  // DAMO_REDO_BOOT_MARK_H_
