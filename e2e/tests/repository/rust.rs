//! Reads Rust sources as syntax trees, and never searches them for words.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, BinOp, Expr, ImplItem, Item, ItemFn, Lit, LitStr, Macro,
    visit::{self, Visit},
};

/// The Rust files below a directory.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                found.extend(files(&path));
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A file as a syntax tree.
pub(crate) fn parsed(path: &Path) -> syn::File {
    let text = fs::read_to_string(path).unwrap();
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether something is compiled for tests only.
fn is_of_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let condition = || attribute.parse_args::<syn::Path>().is_ok_and(|what| what.is_ident("test"));
        is_test(attribute) || (attribute.path().is_ident("cfg") && condition())
    })
}

/// Whether the attribute is one of `#[test]` and `#[tokio::test]`.
fn is_test(attribute: &Attribute) -> bool {
    attribute.path().segments.last().is_some_and(|last| last.ident == "test")
}

/// A file without the items that are compiled for tests only.
pub(crate) fn without_tests(mut file: syn::File) -> syn::File {
    drop_tests(&mut file.items);
    file
}

fn drop_tests(items: &mut Vec<Item>) {
    items.retain(|item| !is_item_of_tests(item));
    for item in items {
        match item {
            Item::Impl(of) => of
                .items
                .retain(|item| !matches!(item, ImplItem::Fn(function) if is_of_tests(&function.attrs))),
            Item::Mod(module) => module.content.iter_mut().for_each(|(_, items)| drop_tests(items)),
            _ => {}
        }
    }
}

/// Whether an item of a file is compiled for tests only.
fn is_item_of_tests(item: &Item) -> bool {
    match item {
        Item::Const(item) => is_of_tests(&item.attrs),
        Item::Fn(item) => is_of_tests(&item.attrs),
        Item::Impl(item) => is_of_tests(&item.attrs),
        Item::Mod(item) => is_of_tests(&item.attrs),
        Item::Use(item) => is_of_tests(&item.attrs),
        _ => false,
    }
}

/// Names of the tests in a file.
pub(crate) fn tests(path: &Path) -> BTreeSet<String> {
    struct Tests(BTreeSet<String>);
    impl<'ast> Visit<'ast> for Tests {
        fn visit_item_fn(&mut self, function: &'ast ItemFn) {
            if function.attrs.iter().any(is_test) {
                self.0.insert(function.sig.ident.to_string());
            }
            visit::visit_item_fn(self, function);
        }
    }
    let mut found = Tests(BTreeSet::new());
    found.visit_file(&parsed(path));
    found.0
}

/// Texts in quotes of a file, without those of its tests and of its documentation.
pub(crate) fn texts(path: &Path) -> BTreeSet<String> {
    struct Texts(BTreeSet<String>);
    impl Texts {
        fn take(&mut self, tokens: proc_macro2::TokenStream) {
            for token in tokens {
                match token {
                    proc_macro2::TokenTree::Group(group) => self.take(group.stream()),
                    proc_macro2::TokenTree::Literal(literal) => {
                        self.0
                            .extend(syn::parse_str::<LitStr>(&literal.to_string()).map(|text| text.value()));
                    }
                    _ => {}
                }
            }
        }
    }
    impl<'ast> Visit<'ast> for Texts {
        // Texts in attributes are for the compiler and for readers of the code.
        fn visit_attribute(&mut self, _: &'ast Attribute) {}

        fn visit_lit_str(&mut self, text: &'ast LitStr) {
            self.0.insert(text.value());
        }

        fn visit_macro(&mut self, mac: &'ast Macro) {
            self.take(mac.tokens.clone());
        }
    }
    let mut found = Texts(BTreeSet::new());
    found.visit_file(&without_tests(parsed(path)));
    found.0
}

/// The value of a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Number(u64),
    Milliseconds(u64),
}

/// The constants of a file by name, also those inside functions and types; a constant that is neither a number nor a
/// duration is left out.
pub(crate) fn constants(path: &Path) -> BTreeMap<String, Vec<Value>> {
    struct Constants(BTreeMap<String, Vec<Value>>);
    impl Constants {
        fn take(&mut self, name: &syn::Ident, value: &Expr) {
            self.0.entry(name.to_string()).or_default().extend(evaluated(value));
        }
    }
    impl<'ast> Visit<'ast> for Constants {
        fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
            self.take(&item.ident, &item.expr);
        }

        fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
            self.take(&item.ident, &item.expr);
        }
    }
    let mut found = Constants(BTreeMap::new());
    found.visit_file(&parsed(path));
    found.0
}

/// The value of an expression of literals: products, shifts and durations.
fn evaluated(expression: &Expr) -> Option<Value> {
    let number = |expression| match evaluated(expression) {
        Some(Value::Number(number)) => Some(number),
        _ => None,
    };
    match expression {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => number.base10_parse().ok().map(Value::Number),
            _ => None,
        },
        Expr::Paren(inner) => evaluated(&inner.expr),
        Expr::Cast(cast) => evaluated(&cast.expr),
        Expr::Binary(binary) => {
            let (left, right) = (number(&binary.left)?, number(&binary.right)?);
            match binary.op {
                BinOp::Mul(_) => left.checked_mul(right),
                BinOp::Shl(_) => left.checked_shl(u32::try_from(right).ok()?),
                _ => None,
            }
            .map(Value::Number)
        }
        Expr::Call(call) => {
            let Expr::Path(function) = &*call.func else { return None };
            let argument = number(call.args.first()?)?;
            match function.path.segments.last()?.ident.to_string().as_str() {
                "from_secs" => Some(Value::Milliseconds(argument * 1_000)),
                "from_millis" => Some(Value::Milliseconds(argument)),
                _ => None,
            }
        }
        _ => None,
    }
}
