//! The files of the workspace: none is too long, and within a crate no two of them need each other in a circle.
//!
//! A module and its submodules count as one part: their uses of each other make no circle.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Macro, UseTree,
    visit::{self, Visit},
};

use crate::rust::{files, without_tests};

/// Most lines of a Rust file.
const MOST_LINES: usize = 500;
/// Sources of each crate that has more than one file.
const CRATES: [&str; 12] = [
    "crds/src",
    "e2e/apiserver/src",
    "e2e/bench/src",
    "e2e/cluster/src",
    "e2e/src",
    "e2e/xtask/src",
    "node/core/src",
    "node/shell/src",
    "node/src",
    "operator/cli/src",
    "operator/core/src",
    "operator/src",
];

/// A module by its names from the root of the crate on.
type Module = Vec<String>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn no_file_is_too_long() {
    let all = files(&root());
    assert!(all.len() > 200, "only {} files: is the search broken?", all.len());
    for path in all {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(
            lines <= MOST_LINES,
            "{} has {lines} lines, {MOST_LINES} at most: make two files of it",
            path.display()
        );
    }
}

/// Cargo finds a test program by itself, but not the files that it is made of.
#[test]
fn every_file_of_a_test_program_is_compiled() {
    let mut programs = 0;
    for main in files(&root()) {
        let is_program =
            main.ends_with("main.rs") && main.components().any(|part| part.as_os_str() == "tests");
        if !is_program {
            continue;
        }
        programs += 1;
        let text = fs::read_to_string(&main).unwrap();
        for entry in fs::read_dir(main.parent().unwrap()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let is_module = path.is_dir() || path.extension().is_some_and(|ending| ending == "rs");
            let declared = name == "main"
                || text.contains(&format!("mod {name};"))
                || text.contains(&format!("mod {name} {{"));
            assert!(!is_module || declared, "{} does not name {}", main.display(), path.display());
        }
    }
    assert!(programs >= 8, "only {programs} programs: is the search broken?");
}

#[test]
fn no_files_need_each_other_in_a_circle() {
    for sources in CRATES {
        let uses = uses(&root().join(sources));
        assert!(!uses.is_empty(), "{sources} has no file");
        let circle = circle(&uses).map(|circle| named(&circle));
        assert_eq!(circle, None, "files of {sources} use each other in a circle: move what they share");
    }
}

fn named(circle: &[Module]) -> String {
    circle.iter().map(|module| module.join("::")).collect::<Vec<_>>().join(" -> ")
}

#[test]
fn a_circle_is_found_and_a_module_with_its_parts_is_none() {
    let module = |name: &str| -> Module { name.split("::").map(str::to_owned).collect() };
    let modules: BTreeSet<_> = ["a", "a::b", "c", "d"].map(module).into();
    let uses = |texts: [(&str, &str); 4]| -> BTreeMap<Module, BTreeSet<Module>> {
        texts.into_iter().map(|(name, text)| (module(name), used(&module(name), text, &modules))).collect()
    };
    let open = uses([
        ("a", "use b::X; use crate::c::Y;"),
        ("a::b", "use super::Z; fn f() { assert!(crate::d::g()) }"),
        ("c", "#[cfg(test)] mod tests { use super::*; use crate::a::X; }"),
        ("d", "use crate::c::{self, Y};"),
    ]);
    assert_eq!(circle(&open), None);
    let closed = uses([
        ("a", "use crate::c::Y;"),
        ("a::b", ""),
        ("c", "fn f(x: &crate::d::D) {}"),
        ("d", "use super::{a::X, c as e};"),
    ]);
    assert_eq!(circle(&closed).map(|circle| named(&circle)).unwrap(), "a -> c -> d -> a");
}

/// The modules that each module of a crate uses.
fn uses(sources: &Path) -> BTreeMap<Module, BTreeSet<Module>> {
    let mut texts = BTreeMap::new();
    for path in files(sources) {
        let inside = path.strip_prefix(sources).unwrap().with_extension("");
        let mut module: Module = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if module.last().is_some_and(|name| name == "mod") {
            module.pop();
        }
        // Roots and programs are above all modules: nothing of the crate can use them.
        let is_root = module == ["lib"] || module == ["main"] || module[0] == "bin";
        let is_test = module.iter().any(|name| name == "tests");
        if !is_root && !is_test {
            texts.insert(module, fs::read_to_string(&path).unwrap());
        }
    }
    let modules: BTreeSet<_> = texts.keys().cloned().collect();
    texts.iter().map(|(module, text)| (module.clone(), used(module, text, &modules))).collect()
}

/// The modules that a file names, without itself, the modules that it is a part of, and its own parts.
fn used(module: &Module, text: &str, modules: &BTreeSet<Module>) -> BTreeSet<Module> {
    let mut names = Names(Vec::new());
    names.visit_file(&without_tests(syn::parse_file(text).unwrap()));
    let absolute = |path: Vec<String>| -> Option<Module> {
        let up = path.iter().take_while(|name| *name == "super").count();
        let (mut base, rest) = match path[0].as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "super" => (module[..module.len().checked_sub(up)?].to_vec(), &path[up..]),
            _ => return None,
        };
        base.extend_from_slice(rest);
        while !base.is_empty() && !modules.contains(&base) {
            base.pop();
        }
        Some(base).filter(|base| !base.starts_with(module) && !module.starts_with(base))
    };
    names.0.into_iter().filter_map(absolute).collect()
}

/// Paths that begin with `crate` or `super`, outside of tests.
struct Names(Vec<Vec<String>>);

impl Names {
    fn tree(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: &dyn ToString| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.tree(&path.tree, &with(&path.ident)),
            UseTree::Name(name) => self.0.push(with(&name.ident)),
            UseTree::Rename(rename) => self.0.push(with(&rename.ident)),
            UseTree::Glob(_) => self.0.push(before.to_vec()),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(tree, before)),
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    /// The words of a macro are no syntax tree: paths are found among them as text.
    fn visit_macro(&mut self, mac: &'ast Macro) {
        let text = mac.tokens.to_string().replace(' ', "");
        let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let words = text.split(|c: char| !is_name(c)).filter(|word| word.contains("::"));
        self.0.extend(words.map(|word| word.split("::").map(str::to_owned).collect()));
        visit::visit_macro(self, mac);
    }
}

/// One circle, with its first module once more at its end.
fn circle(uses: &BTreeMap<Module, BTreeSet<Module>>) -> Option<Vec<Module>> {
    let mut done = BTreeSet::new();
    uses.keys().find_map(|module| walk(module, uses, &mut done, &mut Vec::new()))
}

fn walk(
    module: &Module,
    uses: &BTreeMap<Module, BTreeSet<Module>>,
    done: &mut BTreeSet<Module>,
    way: &mut Vec<Module>,
) -> Option<Vec<Module>> {
    if let Some(at) = way.iter().position(|before| before == module) {
        return Some([&way[at..], std::slice::from_ref(module)].concat());
    }
    if done.contains(module) {
        return None;
    }
    way.push(module.clone());
    let found = uses.get(module).into_iter().flatten().find_map(|next| walk(next, uses, done, way));
    way.pop();
    done.insert(module.clone());
    found
}
