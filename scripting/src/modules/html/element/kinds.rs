//! What kinds of elements have beside what all have: a table for each.

use std::rc::Rc;

use rquickjs::{Ctx, IntoJs, Result as JsResult, Value};

use super::{
    super::{dom::NodeId, undefined},
    ElementNode,
    Member::{Address, Do, Fixed, Flag, Int, OneOf, Text, TextOr, Words},
    Table, by_id, wrap_all, wrap_some,
};

/// The tables of a kind of element; [`super::COMMON`] comes on top.
pub(super) fn tables(tag: &str) -> &'static [Table] {
    match tag {
        "a" | "area" => &[LINK],
        "audio" => &[MEDIA],
        "base" => &[&[("href", Address("href")), ("target", Text("target"))]],
        "blockquote" | "q" => &[&[("cite", Text("cite"))]],
        "button" => &[BUTTON, CONTROL],
        "canvas" => &[&[("width", Int("width", 150)), ("height", Int("height", 150))]],
        "col" | "colgroup" => &[&[("span", Int("span", 1))]],
        "data" => &[&[("value", Text("value"))]],
        "datalist" => &[&[("options", Do(options))]],
        "del" | "ins" => &[&[
            ("cite", Text("cite")),
            ("datetime", Text("datetime")),
            ("dateTime", Text("datetime")),
        ]],
        "embed" => &[&[
            ("height", Text("height")),
            ("src", Address("src")),
            ("type", Text("type")),
            ("width", Text("width")),
        ]],
        "fieldset" => &[FIELDSET],
        "form" => &[FORM],
        "iframe" => &[IFRAME],
        "img" => &[IMAGE],
        "input" => &[INPUT, CONTROL],
        "keygen" => &[KEYGEN],
        "label" => &[LABEL],
        "legend" => &[&[("accessKey", Text("accesskey")), ("form", Do(form))]],
        "li" => &[&[("type", Text("type")), ("value", Int("value", 0))]],
        "link" => &[STYLE_LINK],
        "map" => &[MAP],
        "meta" => &[&[
            ("content", Text("content")),
            ("httpEquiv", Text("http-equiv")),
            ("name", Text("name")),
        ]],
        "meter" => &[METER],
        "object" => &[OBJECT],
        "ol" => &[&[
            ("reversed", Flag("reversed")),
            ("start", Int("start", 1)),
            ("type", TextOr("type", "1")),
        ]],
        "optgroup" => &[&[("disabled", Flag("disabled")), ("label", Text("label"))]],
        "option" => &[OPTION],
        "output" => &[OUTPUT],
        "param" => &[&[
            ("name", Text("name")),
            ("type", Text("type")),
            ("value", Text("value")),
            ("valueType", Text("valuetype")),
        ]],
        "pre" => &[&[("name", Text("name")), ("value", Text("value"))]],
        "progress" => &[PROGRESS],
        "script" => &[SCRIPT],
        "select" => &[SELECT],
        "source" => &[&[
            ("keySystem", Text("keysystem")),
            ("media", Text("media")),
            ("sizes", Text("sizes")),
            ("src", Address("src")),
            ("srcset", Text("srcset")),
            ("type", Text("type")),
        ]],
        "style" => &[&[
            ("media", Text("media")),
            ("text", Do(text)),
            ("type", Text("type")),
        ]],
        "table" => &[TABLE],
        "tbody" | "thead" | "tfoot" => &[&[(
            "rows",
            Do(|ctx, this, _| wrap_all(ctx, &this.page, this.children_with_tag(&["tr"]))),
        )]],
        "td" => &[CELL],
        "textarea" => &[TEXTAREA],
        "th" => &[
            &[
                ("abbr", Text("abbr")),
                ("scope", Text("scope")),
                ("sorted", Flag("sorted")),
            ],
            CELL,
        ],
        "time" => &[&[
            ("datetime", Text("datetime")),
            ("dateTime", Text("datetime")),
        ]],
        "title" => &[&[("text", Do(text))]],
        "tr" => &[ROW],
        "track" => &[&[
            ("default", Flag("default")),
            (
                "kind",
                OneOf(
                    "kind",
                    &[
                        "subtitles",
                        "captions",
                        "descriptions",
                        "chapters",
                        "metadata",
                    ],
                ),
            ),
            ("label", Text("label")),
            ("src", Address("src")),
            ("srclang", Text("srclang")),
        ]],
        "ul" => &[&[("type", Text("type"))]],
        "video" => &[
            &[
                ("height", Int("height", 0)),
                ("poster", Address("poster")),
                ("width", Int("width", 0)),
            ],
            MEDIA,
        ],
        _ => &[],
    }
}

const LINK: Table = &[
    ("accessKey", Text("accesskey")),
    ("download", Text("download")),
    (
        "hash",
        Do(|ctx, this, _| {
            part(ctx, this, |url| {
                let fragment = url.fragment().filter(|f| !f.is_empty());
                fragment.map_or_else(String::new, |fragment| format!("#{fragment}"))
            })
        }),
    ),
    ("host", Do(|ctx, this, _| part(ctx, this, host))),
    (
        "hostname",
        Do(|ctx, this, _| part(ctx, this, |url| url.host().to_owned())),
    ),
    ("href", Address("href")),
    ("hrefLang", Text("hreflang")),
    ("hreflang", Text("hreflang")),
    (
        "origin",
        Do(|ctx, this, _| {
            part(ctx, this, |url| {
                if url.host().is_empty() {
                    String::new()
                } else {
                    format!("{}://{}", url.scheme(), host(url))
                }
            })
        }),
    ),
    (
        "password",
        Do(|ctx, this, _| {
            part(ctx, this, |url| {
                let password = url.userinfo().and_then(|(_, password)| password);
                password.unwrap_or_default().to_owned()
            })
        }),
    ),
    (
        "pathname",
        Do(|ctx, this, _| part(ctx, this, |url| url.path().to_owned())),
    ),
    (
        "port",
        Do(|ctx, this, _| part(ctx, this, |url| url.port_text().to_owned())),
    ),
    (
        "protocol",
        Do(|ctx, this, _| part(ctx, this, |url| url.scheme().to_owned())),
    ),
    ("referrerPolicy", Text("referrerpolicy")),
    ("rel", Text("rel")),
    ("relList", Words("rel")),
    (
        "search",
        Do(|ctx, this, _| {
            part(ctx, this, |url| {
                let query = url.query().filter(|query| !query.is_empty());
                query.map_or_else(String::new, |query| format!("?{query}"))
            })
        }),
    ),
    ("target", Text("target")),
    ("text", Do(text)),
    ("toString", Address("href")),
    ("type", Text("type")),
    (
        "username",
        Do(|ctx, this, _| {
            part(ctx, this, |url| {
                url.userinfo().map_or("", |(user, _)| user).to_owned()
            })
        }),
    ),
];

fn host(url: &volley_net::Url) -> String {
    match url.port_text() {
        "" => url.host().to_owned(),
        port => format!("{}:{port}", url.host()),
    }
}

/// A part of a link's address; empty for one that cannot be read.
fn part<'js>(
    ctx: &Ctx<'js>,
    this: &ElementNode,
    of: fn(&volley_net::Url) -> String,
) -> JsResult<Value<'js>> {
    this.url().as_ref().map(of).unwrap_or_default().into_js(ctx)
}

/// What `button` and `input` share.
const CONTROL: Table = &[
    ("accessKey", Text("accesskey")),
    ("autofocus", Flag("autofocus")),
    ("disabled", Flag("disabled")),
    ("form", Do(form)),
    ("formAction", Address("formaction")),
    ("formEnctype", OneOf("formenctype", ENCODINGS)),
    ("formMethod", OneOf("formmethod", METHODS)),
    ("formNoValidate", Flag("formnovalidate")),
    ("formTarget", Text("formtarget")),
    ("labels", Do(labels)),
    ("name", Text("name")),
    ("tabIndex", Int("tabindex", 0)),
];

const ENCODINGS: &[&str] = &[
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "text/plain",
];

const METHODS: &[&str] = &["get", "post", "dialog"];

const BUTTON: Table = &[
    (
        "type",
        OneOf("type", &["submit", "button", "reset", "menu"]),
    ),
    (
        "value",
        Do(|ctx, this, _| {
            let value = this.attribute("value").map(str::to_owned);
            let value = value.unwrap_or_else(|| this.document().inner_html(this.id));
            value.into_js(ctx)
        }),
    ),
];

const INPUT: Table = &[
    ("accept", Text("accept")),
    ("alt", Text("alt")),
    ("autocomplete", TextOr("autocomplete", "on")),
    ("checked", Flag("checked")),
    ("defaultChecked", Flag("checked")),
    ("defaultValue", Text("value")),
    ("dirName", Text("dirname")),
    ("height", Text("height")),
    (
        "list",
        Do(|ctx, this, _| {
            let list = this
                .attribute("list")
                .and_then(|id| by_id(this.document(), id));
            wrap_some(ctx, &this.page, list)
        }),
    ),
    ("max", Text("max")),
    ("maxLength", Int("maxlength", -1)),
    ("min", Text("min")),
    ("multiple", Flag("multiple")),
    ("pattern", Text("pattern")),
    ("placeholder", Text("placeholder")),
    ("readonly", Flag("readonly")),
    ("readOnly", Flag("readonly")),
    ("required", Flag("required")),
    ("size", Int("size", 0)),
    ("src", Address("src")),
    ("step", Text("step")),
    ("type", TextOr("type", "text")),
    ("value", Text("value")),
    ("width", Text("width")),
];

const KEYGEN: Table = &[
    ("autofocus", Flag("autofocus")),
    ("challenge", Text("challenge")),
    ("disabled", Flag("disabled")),
    ("form", Do(form)),
    ("keytype", TextOr("keytype", "RSA")),
    ("keyType", TextOr("keytype", "RSA")),
    ("labels", Do(labels)),
    ("name", Text("name")),
    ("type", Fixed("keygen")),
];

const FORM: Table = &[
    ("acceptCharset", Text("accept-charset")),
    ("action", Address("action")),
    ("autocomplete", OneOf("autocomplete", &["on", "off"])),
    ("elements", Do(elements)),
    ("encoding", OneOf("enctype", ENCODINGS)),
    ("enctype", OneOf("enctype", ENCODINGS)),
    (
        "length",
        Do(|ctx, this, _| (form_elements(this).len() as f64).into_js(ctx)),
    ),
    ("method", OneOf("method", METHODS)),
    ("name", Text("name")),
    ("noValidate", Flag("novalidate")),
    ("target", Text("target")),
];

const FIELDSET: Table = &[
    ("disabled", Flag("disabled")),
    ("elements", Do(elements)),
    ("form", Do(form)),
    ("name", Text("name")),
    ("type", Fixed("fieldset")),
    ("validity", Do(|ctx, _, _| undefined(ctx))),
];

const SELECT: Table = &[
    ("accessKey", Text("accesskey")),
    ("autofocus", Flag("autofocus")),
    ("disabled", Flag("disabled")),
    ("form", Do(form)),
    ("labels", Do(labels)),
    (
        "length",
        Do(|ctx, this, _| (this.options().len() as f64).into_js(ctx)),
    ),
    ("multiple", Flag("multiple")),
    ("name", Text("name")),
    ("options", Do(options)),
    ("required", Flag("required")),
    (
        "selectedIndex",
        Do(|ctx, this, _| {
            let document = this.document();
            let index = this
                .options()
                .iter()
                .position(|option| document.attribute(*option, "selected").is_some());
            index.map_or(-1.0, |index| index as f64).into_js(ctx)
        }),
    ),
    (
        "selectedOptions",
        Do(|ctx, this, _| wrap_all(ctx, &this.page, this.selected_options())),
    ),
    // As in the reference: what a browser shows when nothing is said, whatever is said.
    (
        "size",
        Do(|ctx, this, _| {
            let size = if this.attribute("multiple").is_some() {
                4
            } else {
                1
            };
            size.into_js(ctx)
        }),
    ),
    ("tabIndex", Int("tabindex", 0)),
    (
        "type",
        Do(|ctx, this, _| {
            let multiple = this.attribute("multiple").is_some();
            let name = if multiple {
                "select-multiple"
            } else {
                "select"
            };
            name.into_js(ctx)
        }),
    ),
    (
        "value",
        Do(|ctx, this, _| {
            let first = this.selected_options().first().copied();
            let value = first.map(|option| this.at(option).option_value());
            value.unwrap_or_default().into_js(ctx)
        }),
    ),
];

const OPTION: Table = &[
    ("defaultSelected", Flag("selected")),
    (
        "disabled",
        Do(|ctx, this, _| {
            let group = this.ancestor(&["optgroup"]);
            let disabled = |node| this.document().attribute(node, "disabled").is_some();
            (disabled(this.id) || group.is_some_and(disabled)).into_js(ctx)
        }),
    ),
    ("form", Do(form)),
    (
        "index",
        Do(|ctx, this, _| {
            let list = this.ancestor(&["select", "datalist"]);
            let options = list.map(|list| this.at(list).options()).unwrap_or_default();
            let index = options.iter().position(|option| *option == this.id);
            (index.unwrap_or_default() as f64).into_js(ctx)
        }),
    ),
    (
        "label",
        Do(|ctx, this, _| {
            let label = this.attribute("label").map(str::to_owned);
            label.unwrap_or_else(|| this.text()).into_js(ctx)
        }),
    ),
    ("selected", Flag("selected")),
    ("text", Do(text)),
    ("value", Do(|ctx, this, _| this.option_value().into_js(ctx))),
];

const TEXTAREA: Table = &[
    ("accessKey", Text("accesskey")),
    (
        "autocapitalize",
        OneOf(
            "autocapitalize",
            &["sentences", "none", "off", "characters", "words"],
        ),
    ),
    ("autocomplete", OneOf("autocomplete", &["on", "off"])),
    ("autofocus", Flag("autofocus")),
    ("cols", Int("cols", 0)),
    ("defaultValue", Do(text)),
    ("disabled", Flag("disabled")),
    ("form", Do(form)),
    ("labels", Do(labels)),
    // The reference looks at an attribute that text areas do not have.
    (
        "length",
        Do(|ctx, this, _| {
            let value = this.attribute("value").unwrap_or_default();
            (value.len() as f64).into_js(ctx)
        }),
    ),
    ("maxLength", Int("maxlength", -1)),
    ("name", Text("name")),
    ("placeholder", Text("placeholder")),
    ("readOnly", Flag("readonly")),
    ("readonly", Flag("readonly")),
    ("required", Flag("required")),
    ("rows", Int("rows", 0)),
    ("tabIndex", Int("tabindex", 0)),
    ("type", Fixed("textarea")),
    ("value", Text("value")),
    ("wrap", OneOf("wrap", &["soft", "hard", "off"])),
];

const LABEL: Table = &[
    (
        "control",
        Do(|ctx, this, _| wrap_some(ctx, &this.page, control(this))),
    ),
    (
        "form",
        Do(|ctx, this, _| {
            let of_control = control(this).and_then(|control| this.at(control).form());
            wrap_some(ctx, &this.page, of_control.or_else(|| this.form()))
        }),
    ),
    ("htmlFor", Text("for")),
];

const OUTPUT: Table = &[
    ("defaultValue", Do(text)),
    ("form", Do(form)),
    ("htmlFor", Text("for")),
    ("labels", Do(labels)),
    ("name", Text("name")),
    ("type", Fixed("output")),
    ("value", Do(text)),
];

const IMAGE: Table = &[
    ("alt", Text("alt")),
    ("complete", Do(|ctx, _, _| false.into_js(ctx))),
    ("crossOrigin", Text("crossorigin")),
    ("currentSrc", Address("src")),
    ("height", Int("height", 0)),
    ("isMap", Flag("ismap")),
    ("name", Text("name")),
    ("referrerPolicy", Text("referrerpolicy")),
    ("sizes", Text("sizes")),
    ("src", Address("src")),
    ("srcset", Text("srcset")),
    ("useMap", Text("usemap")),
    ("width", Int("width", 0)),
];

const IFRAME: Table = &[
    ("allowfullscreen", Flag("allowfullscreen")),
    ("allowFullscreen", Flag("allowfullscreen")),
    ("height", Text("height")),
    ("name", Text("name")),
    ("referrerPolicy", Text("referrerpolicy")),
    ("sandbox", Text("sandbox")),
    ("src", Address("src")),
    ("srcdoc", Text("srcdoc")),
    ("width", Text("width")),
];

const OBJECT: Table = &[
    ("data", Address("data")),
    ("form", Do(form)),
    ("height", Text("height")),
    ("name", Text("name")),
    ("tabIndex", Int("tabindex", 0)),
    ("type", Text("type")),
    ("typeMustMatch", Flag("typemustmatch")),
    ("useMap", Text("usemap")),
    ("width", Text("width")),
];

const MEDIA: Table = &[
    ("autoplay", Flag("autoplay")),
    ("controls", Flag("controls")),
    ("crossOrigin", Text("crossorigin")),
    ("currentSrc", Address("src")),
    ("defaultMuted", Flag("muted")),
    ("loop", Flag("loop")),
    ("mediaGroup", Text("mediagroup")),
    ("muted", Flag("muted")),
    ("preload", OneOf("preload", &["auto", "metadata", "none"])),
    ("src", Address("src")),
    (
        "textTracks",
        Do(|ctx, this, _| wrap_all(ctx, &this.page, this.below_with_tag(&["track"]))),
    ),
];

const STYLE_LINK: Table = &[
    ("crossOrigin", Text("crossorigin")),
    ("href", Address("href")),
    ("hrefLang", Text("hreflang")),
    ("hreflang", Text("hreflang")),
    ("media", Text("media")),
    ("referrerPolicy", Text("referrerpolicy")),
    ("rel", Text("rel")),
    ("relList", Words("rel")),
    ("target", Text("target")),
    ("type", Text("type")),
];

const SCRIPT: Table = &[
    ("async", Flag("async")),
    ("charset", Text("charset")),
    ("crossOrigin", Text("crossorigin")),
    ("defer", Flag("defer")),
    ("noModule", Flag("nomodule")),
    ("src", Address("src")),
    ("text", Do(text)),
    ("type", Text("type")),
];

const MAP: Table = &[
    (
        "areas",
        Do(|ctx, this, _| wrap_all(ctx, &this.page, this.below_with_tag(&["area"]))),
    ),
    (
        "images",
        Do(|ctx, this, _| {
            let document = this.document();
            let name = format!("#{}", this.attribute("name").unwrap_or_default());
            let images = document.descendants(NodeId::ROOT).filter(|node| {
                matches!(document.tag(*node), "img" | "object")
                    && document.attribute(*node, "usemap") == Some(&name)
            });
            wrap_all(ctx, &this.page, images)
        }),
    ),
    ("name", Text("name")),
];

const METER: Table = &[
    (
        "high",
        Do(|ctx, this, _| number(ctx, this, "high", |m| meter_end(m, "max", 1.0))),
    ),
    ("labels", Do(labels)),
    (
        "low",
        Do(|ctx, this, _| number(ctx, this, "low", |m| meter_end(m, "min", 0.0))),
    ),
    (
        "max",
        Do(|ctx, this, _| meter_end(this, "max", 1.0).into_js(ctx)),
    ),
    (
        "min",
        Do(|ctx, this, _| meter_end(this, "min", 0.0).into_js(ctx)),
    ),
    (
        "optimum",
        Do(|ctx, this, _| {
            number(ctx, this, "optimum", |m| {
                (meter_end(m, "min", 0.0) + meter_end(m, "max", 1.0)) / 2.0
            })
        }),
    ),
    (
        "value",
        Do(|ctx, this, _| number(ctx, this, "value", |m| meter_end(m, "min", 0.0))),
    ),
];

fn meter_end(this: &ElementNode, name: &str, default: f64) -> f64 {
    this.number(name).unwrap_or(default)
}

fn number<'js>(
    ctx: &Ctx<'js>,
    this: &ElementNode,
    name: &str,
    default: fn(&ElementNode) -> f64,
) -> JsResult<Value<'js>> {
    this.number(name)
        .unwrap_or_else(|| default(this))
        .into_js(ctx)
}

const PROGRESS: Table = &[
    ("labels", Do(labels)),
    ("max", Do(|ctx, this, _| progress_max(this).into_js(ctx))),
    ("position", Do(progress_position)),
    // A share of the whole in the reference, not the attribute.
    ("value", Do(progress_position)),
];

fn progress_max(this: &ElementNode) -> f64 {
    this.number("max").filter(|max| *max > 0.0).unwrap_or(1.0)
}

fn progress_position<'js>(
    ctx: &Ctx<'js>,
    this: &Rc<ElementNode>,
    _args: &[Value<'js>],
) -> JsResult<Value<'js>> {
    let share = this.number("value").map(|value| value / progress_max(this));
    share.unwrap_or(-1.0).into_js(ctx)
}

const TABLE: Table = &[
    (
        "caption",
        Do(|ctx, this, _| {
            let found = this.children_with_tag(&["caption"]).next();
            wrap_some(ctx, &this.page, found)
        }),
    ),
    (
        "rows",
        Do(|ctx, this, _| wrap_all(ctx, &this.page, this.rows())),
    ),
    ("sortable", Flag("sortable")),
    (
        "tBodies",
        Do(|ctx, this, _| wrap_all(ctx, &this.page, this.children_with_tag(&["tbody"]))),
    ),
    (
        "tFoot",
        Do(|ctx, this, _| {
            let found = this.children_with_tag(&["tfoot"]).next();
            wrap_some(ctx, &this.page, found)
        }),
    ),
    (
        "tHead",
        Do(|ctx, this, _| {
            let found = this.children_with_tag(&["thead"]).next();
            wrap_some(ctx, &this.page, found)
        }),
    ),
];

const ROW: Table = &[
    (
        "cells",
        Do(|ctx, this, _| wrap_all(ctx, &this.page, this.children_with_tag(&["td", "th"]))),
    ),
    (
        "rowIndex",
        Do(|ctx, this, _| {
            let table = this.ancestor(&["table"]);
            let rows = table.map(|table| this.at(table).rows()).unwrap_or_default();
            place(ctx, this, rows)
        }),
    ),
    (
        "sectionRowIndex",
        Do(|ctx, this, _| {
            let section = this
                .document()
                .parent(this.id)
                .map(|parent| this.at(parent));
            let rows = section.map(|s| s.children_with_tag(&["tr"]).collect::<Vec<_>>());
            place(ctx, this, rows.unwrap_or_default())
        }),
    ),
];

const CELL: Table = &[
    (
        "cellIndex",
        Do(|ctx, this, _| {
            let row = this
                .document()
                .parent(this.id)
                .map(|parent| this.at(parent));
            let cells = row.map(|r| r.children_with_tag(&["td", "th"]).collect::<Vec<_>>());
            place(ctx, this, cells.unwrap_or_default())
        }),
    ),
    ("colSpan", Int("colspan", 1)),
    ("headers", Text("headers")),
    ("rowSpan", Int("rowspan", 1)),
];

/// Where a node stands among others; -1 where it does not.
fn place<'js>(
    ctx: &Ctx<'js>,
    this: &ElementNode,
    among: impl IntoIterator<Item = NodeId>,
) -> JsResult<Value<'js>> {
    let place = among.into_iter().position(|node| node == this.id);
    place.map_or(-1.0, |place| place as f64).into_js(ctx)
}

fn form<'js>(ctx: &Ctx<'js>, this: &Rc<ElementNode>, _args: &[Value<'js>]) -> JsResult<Value<'js>> {
    wrap_some(ctx, &this.page, this.form())
}

fn labels<'js>(
    ctx: &Ctx<'js>,
    this: &Rc<ElementNode>,
    _args: &[Value<'js>],
) -> JsResult<Value<'js>> {
    wrap_all(ctx, &this.page, this.labels())
}

fn options<'js>(
    ctx: &Ctx<'js>,
    this: &Rc<ElementNode>,
    _args: &[Value<'js>],
) -> JsResult<Value<'js>> {
    wrap_all(ctx, &this.page, this.options())
}

fn text<'js>(ctx: &Ctx<'js>, this: &Rc<ElementNode>, _args: &[Value<'js>]) -> JsResult<Value<'js>> {
    this.text().into_js(ctx)
}

fn elements<'js>(
    ctx: &Ctx<'js>,
    this: &Rc<ElementNode>,
    _args: &[Value<'js>],
) -> JsResult<Value<'js>> {
    wrap_all(ctx, &this.page, form_elements(this))
}

fn form_elements(this: &ElementNode) -> Vec<NodeId> {
    this.below_with_tag(&[
        "button", "fieldset", "input", "keygen", "object", "output", "select", "textarea",
    ])
    .collect()
}

/// The control that a label is for: the one it names, or the first in it.
fn control(this: &ElementNode) -> Option<NodeId> {
    const CONTROLS: &[&str] = &[
        "button", "input", "keygen", "meter", "output", "progress", "select", "textarea",
    ];
    match this.attribute("for") {
        Some(id) => by_id(this.document(), id),
        None => this.below_with_tag(CONTROLS).next(),
    }
}
