//! `/mappings`: formats and options saved under names. PUT makes or replaces one, GET lists, DELETE drops.

use super::Services;
use super::committing::tell;
use super::error::HttpError;
use super::parameters::Parameters;
use super::write::options;
use crate::batch::{Batch, Command};
use crate::ingest::mapping::{self, MAPPING, Mapping};
use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use kymo_plugin_api::Framing;
use serde_json::{Value, json};

/// The database a request names; it must be there.
fn database(services: &Services, parameters: &Parameters) -> Result<String, HttpError> {
    let name = parameters
        .get("db")
        .ok_or_else(|| HttpError::bad_request("database is required"))?;
    match services.engine.catalog().database(name) {
        Some(_) => Ok(name.to_string()),
        None => Err(HttpError::not_found(format!("database not found: {name:?}"))),
    }
}

fn name(parameters: &Parameters) -> Result<&str, HttpError> {
    let name = parameters.get("name");
    name.ok_or_else(|| HttpError::bad_request("the mapping has no name (use name=..)"))
}

/// `GET /mappings?db=D`, and `&name=N` for one.
pub async fn list(request: HttpRequest, services: Data<Services>) -> Result<HttpResponse, HttpError> {
    let parameters = Parameters::parse(request.query_string());
    let database = database(&services, &parameters)?;
    let catalog = services.engine.catalog();
    let found = match parameters.get("name") {
        None => mapping::all(catalog, &database),
        Some(name) => {
            let found = mapping::get(catalog, &database, name);
            let found = found.map_err(|error| HttpError::not_found(error.to_string()))?;
            vec![(name.to_string(), found)]
        }
    };
    let shown = |(name, mapping): &(String, Mapping)| json!({"name": name, "format": mapping.format, "options": mapping.options_json()});
    let shown: Vec<Value> = found.iter().map(shown).collect();
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .body(format!("{}\n", json!({"mappings": shown}))))
}

/// `PUT /mappings?db=D&name=N&format=F&OPTION=VALUE..`
pub async fn put(request: HttpRequest, services: Data<Services>) -> Result<HttpResponse, HttpError> {
    let mut parameters = Parameters::parse(request.query_string());
    let database = database(&services, &parameters)?;
    let name = name(&parameters)?.to_string();
    parameters.remove("name");
    let formats = services.engine.formats();
    let asked = parameters.get("format");
    let asked = asked.ok_or_else(|| HttpError::bad_request("the mapping has no format (use format=..)"))?;
    let format = formats.by_name(asked);
    let format = format.ok_or_else(|| HttpError::bad_request(formats.unknown(asked)))?;
    let made = Mapping {
        format: format.name().to_string(),
        options: options(format, &parameters, true)?,
    };
    format
        .decoder(&made.options, Framing::Whole)
        .map_err(|error| HttpError::bad_request(error.to_string()))?;
    made.check(services.engine.catalog(), &database, &name)
        .map_err(|error| HttpError::bad_request(error.to_string()))?;
    let put = Command::PutRecord {
        kind: MAPPING.to_string(),
        name: mapping::key(&database, &name),
        value: made.to_text(),
    };
    commit(services, put).await
}

/// `DELETE /mappings?db=D&name=N`
pub async fn drop_one(request: HttpRequest, services: Data<Services>) -> Result<HttpResponse, HttpError> {
    let parameters = Parameters::parse(request.query_string());
    let database = database(&services, &parameters)?;
    let name = name(&parameters)?;
    mapping::get(services.engine.catalog(), &database, name)
        .map_err(|error| HttpError::not_found(error.to_string()))?;
    let remove = Command::RemoveRecord {
        kind: MAPPING.to_string(),
        name: mapping::key(&database, name),
    };
    commit(services, remove).await
}

/// 204 when it is durable.
async fn commit(services: Data<Services>, command: Command) -> Result<HttpResponse, HttpError> {
    let services = services.into_inner();
    let work = move || {
        let batch = Batch {
            shards: services.engine.shards(),
            commands: vec![command],
            ..Batch::default()
        };
        services.engine.commit(batch)
    };
    let failed = |_| HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "keeping the mapping failed");
    let sequence = tokio::task::spawn_blocking(work).await.map_err(failed)??;
    let mut response = HttpResponse::NoContent().finish();
    tell(&mut response, Some(sequence));
    Ok(response)
}
