//! A browser without a screen: it keeps its cookie, says where its forms come from, and follows no redirect by itself.

use std::sync::Mutex;

use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder};

/// Somebody at the console.
pub struct Browser {
    http: Client,
    base: String,
    cookie: Mutex<Option<String>>,
}

/// A page as it came.
#[derive(Debug)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The text.
    pub text: String,
}

impl Page {
    /// A header's text; empty where it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Where it leads on to.
    #[track_caller]
    pub fn leads_to(&self) -> &str {
        assert_eq!(self.status, 303, "{}", self.text);
        self.header("location")
    }

    /// The value of a hidden field.
    #[track_caller]
    pub fn hidden(&self, name: &str) -> String {
        let field = format!("name=\"{name}\" value=\"");
        let after = self.text.split(&field).nth(1).unwrap_or_else(|| panic!("no {name} in {}", self.text));
        after.split('"').next().unwrap().to_owned()
    }

    /// Fails the story where the page does not say this.
    #[track_caller]
    pub fn must_say(&self, words: &str) -> &Self {
        assert!(self.text.contains(words), "{words:?} is not in: {}", self.text);
        self
    }

    /// Fails the story where the page says this.
    #[track_caller]
    pub fn must_not_say(&self, words: &str) -> &Self {
        assert!(!self.text.contains(words), "{words:?} is in: {}", self.text);
        self
    }
}

impl Browser {
    /// A browser that was never here.
    pub fn new(base: &str) -> Self {
        let http = Client::builder().redirect(Policy::none()).build().unwrap();
        Self { http, base: base.to_owned(), cookie: Mutex::default() }
    }

    /// One who is signed in with this key.
    pub async fn signed_in(base: &str, key: &str) -> Self {
        let browser = Self::new(base);
        let page = browser.sign_in(key).await;
        assert_eq!(page.leads_to(), "/console");
        browser
    }

    /// Fills in the page that asks for a key.
    pub async fn sign_in(&self, key: &str) -> Page {
        let mark = self.get("/console/sign-in").await.hidden("mark");
        self.post("/console/sign-in", &[("mark", &mark), ("key", key)]).await
    }

    /// The cookie as it is sent.
    pub fn cookie(&self) -> Option<String> {
        self.cookie.lock().unwrap().clone()
    }

    /// Another one with the same cookie.
    pub fn keep(&self, cookie: Option<String>) {
        *self.cookie.lock().unwrap() = cookie;
    }

    /// Loads a page.
    pub async fn get(&self, path: &str) -> Page {
        self.send(self.request(reqwest::Method::GET, path)).await
    }

    /// Sends a form of one of our pages.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let request = self.request(reqwest::Method::POST, path).header("Origin", &self.base);
        self.send(filled(request, fields)).await
    }

    /// Presses a button: loads the page that asks, fills in what is given, and sends its form.
    pub async fn press(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let asked = self.get(path).await;
        assert_eq!(asked.status, 200, "{}", asked.text);
        let (mark, once) = (asked.hidden("mark"), asked.hidden("once"));
        self.post(path, &[&[("mark", mark.as_str()), ("once", once.as_str())], fields].concat()).await
    }

    /// A request with the cookie.
    pub fn request(&self, method: reqwest::Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match self.cookie() {
            Some(cookie) => request.header("Cookie", cookie),
            None => request,
        }
    }

    /// Sends a request, and keeps the cookie that comes back.
    pub async fn send(&self, request: RequestBuilder) -> Page {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        if let Some(set) = headers.get("set-cookie").and_then(|value| value.to_str().ok()) {
            let pair = set.split(';').next().unwrap().to_owned();
            self.keep(Some(pair).filter(|pair| !pair.ends_with('=')));
        }
        Page { status, headers, text: answer.text().await.unwrap() }
    }
}

/// A request with a form.
pub fn filled(request: RequestBuilder, fields: &[(&str, &str)]) -> RequestBuilder {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    request.header("Content-Type", "application/x-www-form-urlencoded").body(body)
}
