//! Small files that contain every kind of structure, as libhdf5 writes it.

use std::{path::Path, str::FromStr};

use hdf5_metno::{
    Dataset, FileBuilder, Group, H5Type,
    types::{VarLenArray, VarLenUnicode},
};

/// The oldest version of libhdf5 that must be able to read the file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Style {
    /// Any version: symbol tables, B-trees of version 1.
    Old,
    /// 1.8: object headers of version 2, links and attributes in heaps.
    Middle,
    /// The latest version: other indexes of chunks.
    New,
}

#[derive(H5Type, Clone, Copy)]
#[repr(C)]
struct Record {
    count: i32,
    share: f64,
    pair: [u16; 2],
}

/// Writes a file with groups, links, attributes and datasets of all layouts.
pub(super) fn write(path: &Path, style: Style) {
    let mut files = FileBuilder::new();
    files.with_fapl(|access| match style {
        Style::Old => access.libver_earliest(),
        Style::Middle => access.libver_v18(),
        Style::New => access.libver_latest(),
    });
    let file = files.create(path).unwrap();
    let group = file.create_group("X").unwrap();
    for name in ["encoding-type", "encoding-version"] {
        text(&group, name, "csr_matrix");
    }
    group.new_attr_builder().with_data(&[3_i64, 4]).create("shape").unwrap();
    layouts(&group);
    // More attributes and links than object headers hold in later versions.
    for number in 0..12 {
        text(&group, &format!("attribute {number}"), &"text ".repeat(number));
        file.create_group("many")
            .or_else(|_| file.group("many"))
            .unwrap()
            .create_group(&format!("member {number}"))
            .unwrap();
    }
    let lists: Vec<VarLenArray<i32>> = (0..4).map(|length| VarLenArray::from_slice(&vec![7; length])).collect();
    group.new_attr_builder().with_data(&lists).create("lists").unwrap();
    group.link_soft("/X/contiguous", "soft").unwrap();
    file.link_hard("X", "again").unwrap();
    file.flush().unwrap();
    file.close().unwrap();
}

fn layouts(group: &Group) {
    let numbers: Vec<f32> = (0_u8..200).map(f32::from).collect();
    let words: Vec<VarLenUnicode> = ["a", "", "gene"].map(|word| VarLenUnicode::from_str(word).unwrap()).to_vec();
    let records: Vec<Record> = (0..5).map(|count| Record { count, share: 0.5, pair: [1, 2] }).collect();
    let builder = || group.new_dataset_builder();
    let done: [hdf5_metno::Result<Dataset>; 10] = [
        builder().with_data(&numbers).create("contiguous"),
        builder().with_data(&words).create("words"),
        builder().with_data(&records).create("records"),
        builder().with_data(&numbers[..8]).layout(hdf5_metno::dataset::Layout::Compact).create("compact"),
        builder().with_data(&numbers).chunk(200).create("one chunk"),
        builder().with_data(&numbers).chunk(200).deflate(3).create("one packed chunk"),
        builder().with_data(&numbers).chunk(16).shuffle().deflate(3).fletcher32().create("chunks"),
        builder().empty::<i32>().shape(0..).chunk(4).deflate(3).create("growing"),
        builder().empty::<i32>().shape((0.., 0..)).chunk((4, 4)).create("growing both ways"),
        builder().empty::<u8>().shape(0..).chunk(4).create("without values"),
    ];
    for dataset in done {
        dataset.unwrap();
    }
    let growing = group.dataset("growing").unwrap();
    growing.resize(300).unwrap();
    growing.write_raw(&vec![5_i32; 300]).unwrap();
    let both = group.dataset("growing both ways").unwrap();
    both.resize((20, 24)).unwrap();
    both.write_raw(&vec![5_i32; 480]).unwrap();
}

fn text(group: &Group, name: &str, value: &str) {
    let value = VarLenUnicode::from_str(value).unwrap();
    group.new_attr::<VarLenUnicode>().create(name).unwrap().write_scalar(&value).unwrap();
}
