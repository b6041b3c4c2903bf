/* An ATmega in simavr: its EEPROM a file, its USART0 a Unix socket, its time that of the host while it sleeps.
 *
 *   board MCU FIRMWARE EEPROM SOCKET CUT COUNT
 *
 * EEPROM is a file of as many bytes as the processor has; each byte that is programmed is in it at once. Unless CUT is -1, the
 * power goes after so many bytes: of the next one, every other bit changes.
 * With COUNT 1, at each frame that is sent, a line on standard error tells the cycles so far, without sleep, and the
 * deepest stack, in bytes.
 *
 * device-emulator starts this. simavr is under the GPL, so the program made of this and of it is, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <avr_eeprom.h>
#include <avr_uart.h>
#include <sim_avr.h>
#include <sim_elf.h>

#define FREQUENCY 16000000
#define EECR 0x3f
#define EEDR 0x40
#define EEAR 0x41
#define EEMPE 4
#define SP 0x5d
#define END 0xc0

static avr_t *avr;
static int line, counts;
static int may_send = 1;
static unsigned lowest = 0xffff;
static avr_cycle_count_t slept;

static int fail(const char *what) {
    fprintf(stderr, "board: %s: %s\n", what, errno ? strerror(errno) : "not possible");
    return 1;
}

static void on_output(struct avr_irq_t *irq, uint32_t value, void *param) {
    unsigned char byte = value;
    if (write(line, &byte, 1) != 1) exit(0);
    if (counts && byte == END) fprintf(stderr, "cycles %llu stack %u\n", (unsigned long long)(avr->cycle - slept), avr->ramend - lowest);
}

static void on_xon(struct avr_irq_t *irq, uint32_t value, void *param) { may_send = 1; }

static void on_xoff(struct avr_irq_t *irq, uint32_t value, void *param) { may_send = 0; }

static int load_eeprom(int file) {
    unsigned char *bytes = malloc(avr->e2end + 1);
    avr_eeprom_desc_t eeprom = {.ee = bytes, .offset = 0, .size = avr->e2end + 1};
    if (!bytes || read(file, bytes, eeprom.size) != (ssize_t)eeprom.size) return 0;
    avr_ioctl(avr, AVR_IOCTL_EEPROM_SET, &eeprom);
    free(bytes);
    return 1;
}

int main(int count, char **arguments) {
    if (count != 7) return fail("usage: board MCU FIRMWARE EEPROM SOCKET CUT COUNT");
    long cut = atol(arguments[5]);
    counts = atoi(arguments[6]);
    elf_firmware_t firmware = {0};
    avr = avr_make_mcu_by_name(arguments[1]);
    if (!avr || elf_read_firmware(arguments[2], &firmware)) return fail(arguments[2]);
    avr_init(avr);
    avr->log = LOG_ERROR;
    strncpy(firmware.mmcu, arguments[1], sizeof firmware.mmcu - 1);
    firmware.frequency = FREQUENCY;
    avr_load_firmware(avr, &firmware);
    avr->frequency = FREQUENCY;

    int file = open(arguments[3], O_RDWR);
    if (file < 0 || !load_eeprom(file)) return fail(arguments[3]);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, arguments[4], sizeof address.sun_path - 1);
    line = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(line, (struct sockaddr *)&address, sizeof address)) return fail(arguments[4]);

    uint32_t flags = 0;
    avr_ioctl(avr, AVR_IOCTL_UART_GET_FLAGS('0'), &flags);
    flags &= ~(AVR_UART_FLAG_STDIO | AVR_UART_FLAG_POLL_SLEEP);
    avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags);
    avr_irq_t *input = avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_INPUT);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUTPUT), on_output, 0);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUT_XON), on_xon, 0);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUT_XOFF), on_xoff, 0);

    int was_permitted = 0;
    avr_cycle_count_t look = 0;
    for (;;) {
        int was_asleep = avr->state == cpu_Sleeping;
        avr_cycle_count_t before = avr->cycle;
        int state = avr_run(avr);
        if (was_asleep) slept += avr->cycle - before;
        if (state == cpu_Done || state == cpu_Crashed) return fail("the processor stopped");
        unsigned stack = avr->data[SP] | avr->data[SP + 1] << 8;
        if (stack < lowest && stack > 0x100) lowest = stack;

        /* simavr programs at once: all that is to be seen is that the permission is used up. */
        int is_permitted = avr->data[EECR] & EEMPE;
        if (was_permitted && !is_permitted) {
            unsigned at = avr->data[EEAR] | avr->data[EEAR + 1] << 8;
            unsigned char byte = avr->data[EEDR], old;
            if (cut == 0) {
                if (pread(file, &old, 1, at) != 1) return fail(arguments[3]);
                byte = (old & 0xaa) | (byte & 0x55);
            }
            if (pwrite(file, &byte, 1, at) != 1) return fail(arguments[3]);
            if (cut >= 0 && cut-- == 0) return 0;
        }
        was_permitted = is_permitted;

        if (avr->cycle >= look && may_send) {
            unsigned char byte;
            ssize_t got = recv(line, &byte, 1, MSG_DONTWAIT);
            if (got == 0) return 0;
            if (got == 1) avr_raise_irq(input, byte);
            /* A byte at 115200 baud. */
            look = avr->cycle + FREQUENCY / 11520;
        }
    }
}
