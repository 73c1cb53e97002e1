/* Count the guest's instructions between markers: a plugin for QEMU, plugin API version 1.
 *
 * Every translated block of code adds its number of instructions to a counter. A system call of the
 * number MARKER, which no kernel knows, writes its first argument and the counter to QEMU's log.
 * The guest is to run in one thread: the counter is not atomic.
 *
 * Debian ships no header for plugins, so what is used of the API is declared here, after
 * https://www.qemu.org/docs/master/devel/tcg-plugins.html
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { MARKER = 25956, ADD_U64 = 0 };

typedef uint64_t plugin_id;
struct qemu_plugin_tb;

typedef void (*translated)(plugin_id, struct qemu_plugin_tb *);
typedef void (*system_call)(plugin_id, unsigned processor, int64_t number, uint64_t, uint64_t,
                            uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, translated);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, system_call);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int operation,
                                              void *counter, uint64_t addend);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
void qemu_plugin_outs(const char *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static uint64_t instructions;

static void count_block(plugin_id id, struct qemu_plugin_tb *block)
{
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &instructions,
                                             qemu_plugin_tb_n_insns(block));
}

static void write_marker(plugin_id id, unsigned processor, int64_t number, uint64_t label,
                         uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g,
                         uint64_t h)
{
    char line[64];
    if (number != MARKER)
        return;
    snprintf(line, sizeof line, "marker %" PRIu64 " %" PRIu64 "\n", label, instructions);
    qemu_plugin_outs(line);
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const void *info,
                                                               int count, char **arguments)
{
    qemu_plugin_register_vcpu_tb_trans_cb(id, count_block);
    qemu_plugin_register_vcpu_syscall_cb(id, write_marker);
    return 0;
}
