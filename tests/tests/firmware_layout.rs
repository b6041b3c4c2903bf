//! The firmware of the real boards: what of it is where, and what is not in it. No board is needed for that.

use std::{ops::Range, path::Path, process::Command};

use end_to_end::firmware;
use object::{
    Endianness, Object as _, ObjectSection as _, ObjectSymbol as _,
    elf::PT_LOAD,
    read::elf::{ElfFile32, ProgramHeader as _},
};

/// What the documents of a part say, so that `memory.x` is not compared with itself.
struct Board {
    name: &'static str,
    /// Its firmware for a USB cable, if it has a socket of its own.
    usb: Option<&'static str>,
    target: &'static str,
    /// Addresses of the flash that an image may be in.
    flash: Range<u64>,
    /// The address of the vector table.
    vectors: u64,
    /// Addresses of the storage.
    storage: Range<u64>,
    /// What the addresses in a layout count from.
    layout_base: u64,
    ram: Range<u64>,
}

const BOARDS: &[Board] = &[
    Board {
        name: "nrf52840-dk",
        usb: Some("nrf52840-dk-usb"),
        target: "thumbv7em-none-eabihf",
        flash: 0..(1 << 20),
        vectors: 0,
        storage: 0xF_6000..0xF_A000,
        layout_base: 0,
        ram: 0x2000_0000..0x2004_0000,
    },
    Board {
        name: "nucleo-l476rg",
        usb: None,
        target: "thumbv7em-none-eabihf",
        // The second bank is the storage's.
        flash: 0x0800_0000..0x0808_0000,
        vectors: 0x0800_0000,
        storage: 0x080F_A800..0x080F_E800,
        layout_base: 0x0800_0000,
        ram: 0x2000_0000..0x2001_8000,
    },
    Board {
        name: "rpi-pico",
        usb: Some("rpi-pico-usb"),
        target: "thumbv6m-none-eabi",
        flash: 0x1000_0000..0x1020_0000,
        vectors: 0x1000_0100,
        storage: 0x101F_6000..0x101F_A000,
        layout_base: 0x1000_0000,
        ram: 0x2000_0000..0x2004_2000,
    },
];

/// What is left for the stack at the least. The emulated board takes 16 kB (docs/benchmarks.md).
const STACK: u64 = 32 << 10;

/// Runs `check` on each image.
fn each_image(check: impl Fn(&Board, &ElfFile32<'_, Endianness>)) {
    for board in BOARDS {
        for name in [board.name].into_iter().chain(board.usb) {
            let image = std::fs::read(firmware(name, board.target)).expect("an image");
            check(board, &ElfFile32::parse(&image[..]).unwrap_or_else(|error| panic!("{name}: {error}")));
        }
    }
}

#[test]
fn nothing_of_an_image_is_where_the_storage_is() {
    each_image(|board, elf| {
        let name = board.name;
        let mut loaded = 0;
        for segment in elf.elf_program_headers() {
            let endian = elf.endian();
            let size = u64::from(segment.p_filesz(endian));
            if segment.p_type(endian) != PT_LOAD || size == 0 {
                continue;
            }
            let start = u64::from(segment.p_paddr(endian));
            let range = start..start + size;
            assert!(
                board.flash.start <= range.start && range.end <= board.flash.end,
                "{name}: {range:x?} is not flash"
            );
            assert!(range.end <= board.storage.start || board.storage.end <= range.start, "{name}: {range:x?}");
            loaded += size;
        }
        assert!(loaded > 50_000, "{name}: an image of {loaded} bytes");
    });
}

#[test]
fn the_layout_of_an_image_is_the_storage() {
    each_image(|board, elf| {
        let end = |symbol| board.layout_base + symbol_of(board, elf, symbol);
        assert_eq!(end("_layout_start")..end("_layout_end"), board.storage, "{}", board.name);
    });
}

#[test]
fn an_image_starts() {
    each_image(|board, elf| {
        let name = board.name;
        let vectors = section_of(board, elf, ".vector_table");
        assert_eq!(vectors.address(), board.vectors, "{name}");
        let word = |at: usize| {
            let data = vectors.data().expect("the vectors have contents");
            u64::from(u32::from_le_bytes(data[at..at + 4].try_into().expect("4 bytes")))
        };
        let (stack, reset) = (word(0), word(4));
        assert!(
            board.ram.contains(&(stack - 8)) && stack <= board.ram.end && stack.is_multiple_of(8),
            "{name}: {stack:x}"
        );
        assert_eq!(reset, elf.entry(), "{name}");
        let text = section_of(board, elf, ".text");
        assert!((text.address()..text.address() + text.size()).contains(&(reset & !1)), "{name}: {reset:x}");
        assert_eq!(reset & 1, 1, "{name}: Thumb");
        let nmi = word(8);
        let is_own = nmi & !1 != symbol_of(board, elf, "DefaultHandler_") & !1;
        assert_eq!(is_own, name == "nucleo-l476rg", "{name}: a word that was cut short raises it there");
    });
}

#[test]
fn the_stack_has_room() {
    each_image(|board, elf| {
        let mut end = board.ram.start;
        for section in elf.sections().filter(|section| section.address() >= board.ram.start) {
            end = end.max(section.address() + section.size());
        }
        assert!(end > board.ram.start && end + STACK <= board.ram.end, "{}: statics end at {end:x}", board.name);
    });
}

/// The boot ROM of the RP2040 starts nothing whose checksum is wrong.
#[test]
fn the_pico_has_a_second_stage_that_its_boot_rom_accepts() {
    each_image(|board, elf| {
        if board.name != "rpi-pico" {
            assert!(elf.section_by_name(".boot2").is_none(), "{}", board.name);
            return;
        }
        let section = section_of(board, elf, ".boot2");
        let data = section.data().expect("it has contents");
        assert_eq!((section.address(), data.len()), (board.flash.start, 256));
        let (code, sum) = data.split_at(252);
        let crc = code.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ (u32::from(*byte) << 24), |crc, _| (crc << 1) ^ (0x04C1_1DB7 * (crc >> 31)))
        });
        assert_eq!(crc.to_le_bytes(), sum);
    });
}

/// A seed that the emulator chooses is no source of random numbers.
#[test]
fn no_real_board_has_the_generator_of_emulated_ones() {
    const EMULATED: &str = "firmware-emulated ";
    for board in BOARDS {
        assert!(!tree(board.name, board.target).contains(EMULATED), "{}", board.name);
    }
    assert!(tree("emcraft-sf2", "thumbv7m-none-eabi").contains(EMULATED), "this test looks for what is not there");
    each_image(|board, elf| {
        assert!(elf.symbols().all(|symbol| symbol.name() != Ok("_emulated_page")), "{}", board.name);
    });
}

/// What `board` is built from, as cargo sees it.
fn tree(board: &str, target: &str) -> String {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--prefix", "none", "--edges", "normal,build", "--target", target])
        .args(["--package", &format!("firmware-{board}")])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../device/firmware"))
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).expect("UTF-8");
    assert!(tree.starts_with(&format!("firmware-{board} ")), "{tree}");
    tree
}

fn section_of<'e>(
    board: &Board,
    elf: &'e ElfFile32<'_, Endianness>,
    name: &str,
) -> object::read::elf::ElfSection32<'e, 'e, Endianness> {
    elf.section_by_name(name).unwrap_or_else(|| panic!("{}: no section {name}", board.name))
}

fn symbol_of(board: &Board, elf: &ElfFile32<'_, Endianness>, name: &str) -> u64 {
    let symbol = elf.symbols().find(|symbol| symbol.name() == Ok(name));
    symbol.unwrap_or_else(|| panic!("{}: no symbol {name}", board.name)).address()
}
